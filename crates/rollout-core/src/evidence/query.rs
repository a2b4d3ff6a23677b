//! Turns what a plan measures into query texts. Series of all rollouts come in one answer wherever they can: an arm with the default labels adds only
//! `espalier_dev_revision!=""`, so that the text is the same for every rollout of a policy. Sends nothing.

use std::collections::BTreeSet;

use super::series::{Arm, Arms, Query, Role};
use crate::plan::{CountBound, CountSource, Energy, Guardrail, LevelBound, MatchOp, Paired, Plan, Reference, Selector, Test, Win};
use crate::revision::RevisionId;

/// Label that names the revision of a pod.
pub const REVISION_LABEL: &str = "espalier_dev_revision";
/// Label that names the rollout of a pod.
pub const ROLLOUT_LABEL: &str = "espalier_dev_rollout";

/// A metric to be read for an arm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    /// The selector; `None` is `up`, the scrape itself.
    pub selector: Option<&'a Selector>,
    /// What follows the metric name.
    pub suffix: &'static str,
    /// How an arm's series are told apart.
    pub by: By<'a>,
}

/// How an arm's series are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum By<'a> {
    /// By the labels of the scraped pod.
    Target,
    /// By a label that names the pod, on an exporter that serves many.
    PodLabel(&'a str),
    /// By a label that names the backend, on a gateway.
    Backend(&'a str),
    /// By a label that names the revision, on a collector that compares answers.
    Revision(&'a str),
}

impl<'a> Sought<'a> {
    /// The scrape itself.
    pub(super) const UP: Self = Self { selector: None, suffix: "", by: By::Target };

    /// A guardrail's own series.
    pub(super) fn of(guardrail: &'a Guardrail, selector: &'a Selector, suffix: &'static str) -> Self {
        let by = match (&guardrail.test, guardrail.pod_label.as_deref()) {
            (Test::Paired(Paired { revision_label: Some(label), .. }), _) => By::Revision(label),
            (_, Some(label)) => By::PodLabel(label),
            (_, None) => By::Target,
        };
        Self { selector: Some(selector), suffix, by }
    }

    /// Metric name as sent.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.selector.map_or("up", |s| s.metric.as_str()), self.suffix)
    }

    /// The query for `arm`; `None` when nothing could match because the arm has no pods yet.
    pub(super) fn query(&self, arm: &Arm) -> Option<Query> {
        // Written in one piece: a replay of days asks for this text a million times.
        let mut text = String::with_capacity(96);
        text.push_str(self.selector.map_or("up", |s| s.metric.as_str()));
        text.push_str(self.suffix);
        let mut matchers = Matchers { text, any: false };
        for (label, op, value) in self.selector.into_iter().flat_map(|s| &s.matchers) {
            matchers.add(label, *op, value);
        }
        match (self.by, Via::of(arm)) {
            (By::Backend(label) | By::PodLabel(label) | By::Revision(label), _) => matchers.add(label, MatchOp::NotEqual, ""),
            (By::Target, Via::Matchers) => arm.matchers.iter().for_each(|(k, v)| matchers.add(k, MatchOp::Equal, v)),
            (By::Target, Via::Revision(_)) => matchers.add(REVISION_LABEL, MatchOp::NotEqual, ""),
            (By::Target, Via::Pods) => {
                if arm.pods.is_empty() {
                    return None;
                }
                matchers.add("namespace", MatchOp::Equal, &arm.namespace);
                let names: Vec<String> = arm.pods.iter().map(|pod| pod.replace('.', "\\.")).collect();
                matchers.add("pod", MatchOp::Matches, &names.join("|"));
            }
        }
        Some(Query::new(matchers.end()))
    }
}

/// Whether some guardrail looks at series of other rollouts too: at whose devices are shared, or at what a collector says of revisions under the
/// label by which pods are told apart.
pub(super) fn reads_others(plan: &Plan) -> bool {
    plan.guardrails.iter().any(|guardrail| match &guardrail.test {
        Test::Energy(_) => true,
        Test::Paired(paired) => paired.revision_label.as_deref().is_some_and(|label| label.ends_with(REVISION_LABEL)),
        _ => false,
    })
}

/// What picks out an arm's own targets.
pub(super) enum Via<'a> {
    /// The user's labels.
    Matchers,
    /// The revision label.
    Revision(&'a RevisionId),
    /// Pod names.
    Pods,
}

impl<'a> Via<'a> {
    pub(super) fn of(arm: &'a Arm) -> Self {
        if !arm.matchers.is_empty() {
            return Self::Matchers;
        }
        match &arm.revision {
            Some(revision) if !revision.is_baseline() => Self::Revision(revision),
            _ => Self::Pods,
        }
    }
}

/// A selector being written.
struct Matchers {
    text: String,
    any: bool,
}

impl Matchers {
    fn add(&mut self, label: &str, op: MatchOp, value: &str) {
        self.text.push(if self.any { ',' } else { '{' });
        self.any = true;
        self.text.push_str(label);
        self.text.push_str(op.sign());
        self.text.push('"');
        for c in value.chars() {
            match c {
                '\\' | '"' => self.text.extend(['\\', c]),
                '\n' => self.text.push_str("\\n"),
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    fn end(mut self) -> String {
        self.text.push_str(if self.any { "}" } else { "{}" });
        self.text
    }
}

/// Everything that must be asked at each instant.
pub(super) fn all(plan: &Plan, arms: &Arms) -> BTreeSet<Query> {
    let mut queries = of_guardrails(&plan.guardrails, arms);
    let both = [Role::Candidate, Role::Stable];
    queries.extend(of_arms(&Sought::UP, &both, arms));
    if let Some(requests) = &plan.requests {
        queries.extend(of_arms(&requests_sought(requests), &both, arms));
    }
    queries
}

/// What these guardrails read.
pub(super) fn of_guardrails<'a>(guardrails: impl IntoIterator<Item = &'a Guardrail>, arms: &Arms) -> BTreeSet<Query> {
    let mut queries = BTreeSet::new();
    for guardrail in guardrails {
        let mut roles = roles(&guardrail.test);
        if matches!(guardrail.win, Some(Win::Ratio { versus: Reference::Baseline, .. })) && !roles.contains(&Role::Baseline) {
            roles.push(Role::Baseline);
        }
        queries.extend(sought(guardrail).iter().flat_map(|sought| of_arms(sought, &roles, arms)));
    }
    queries
}

/// What these guardrails read of the champion.
pub(super) fn of_champion<'a>(guardrails: impl IntoIterator<Item = &'a Guardrail>, arms: &Arms) -> BTreeSet<Query> {
    let metrics = guardrails.into_iter().flat_map(sought);
    metrics.chain([Sought::UP]).flat_map(|sought| of_arms(&sought, &[Role::Stable], arms)).collect()
}

fn of_arms(sought: &Sought<'_>, roles: &[Role], arms: &Arms) -> Vec<Query> {
    roles.iter().filter_map(|role| arms.of(*role).ok()).filter_map(|arm| sought.query(arm)).collect()
}

/// The counter of requests.
pub(super) fn requests_sought(requests: &crate::plan::RequestCounter) -> Sought<'_> {
    let by = requests.backend_label.as_deref().map_or(By::Target, By::Backend);
    Sought { selector: Some(&requests.series), suffix: "", by }
}

/// The counter of inferences is on the arms' own pods, whoever counts their energy.
pub(super) fn inferences_sought(energy: &Energy) -> Sought<'_> {
    Sought { selector: Some(&energy.inferences), suffix: "", by: By::Target }
}

/// The metrics a guardrail reads.
pub(super) fn sought(guardrail: &Guardrail) -> Vec<Sought<'_>> {
    match &guardrail.test {
        Test::Counts { bad, total, .. } => {
            let requests = guardrail.requests.as_ref().and_then(|requests| count_sought(guardrail, requests, total));
            [count_sought(guardrail, bad, total), count_sought(guardrail, total, bad), requests].into_iter().flatten().collect()
        }
        Test::Paired(paired) => [&paired.candidate_wrong, &paired.stable_wrong, &paired.total]
            .into_iter()
            .filter_map(|source| count_sought(guardrail, source, &paired.total))
            .collect(),
        Test::Gap(gap) => {
            [count_sought(guardrail, &gap.bad, &gap.total), count_sought(guardrail, &gap.total, &gap.bad)].into_iter().flatten().collect()
        }
        Test::Drift(drift) => {
            [Some(&drift.bins), drift.recorded.as_ref()].into_iter().flatten().map(|selector| Sought::of(guardrail, selector, "")).collect()
        }
        Test::Energy(energy) => vec![Sought::of(guardrail, &energy.consumption, ""), inferences_sought(energy)],
        Test::Level { series, .. } | Test::Limit { series, .. } | Test::Tripwire { series } => vec![Sought::of(guardrail, series, "")],
    }
}

/// The metric behind one side of a count; `None` for seconds, which come from the scrape itself. All observations of a histogram are read from its
/// buckets when the other side reads them anyway.
pub(super) fn count_sought<'a>(guardrail: &'a Guardrail, source: &'a CountSource, other: &CountSource) -> Option<Sought<'a>> {
    match (source, other) {
        (CountSource::Counter(selector), _) => Some(Sought::of(guardrail, selector, "")),
        (CountSource::Above { histogram, .. }, _) => Some(Sought::of(guardrail, histogram, "_bucket")),
        (CountSource::Observations(selector), CountSource::Above { histogram, .. }) if selector == histogram => {
            Some(Sought::of(guardrail, selector, "_bucket"))
        }
        (CountSource::Observations(selector), _) => Some(Sought::of(guardrail, selector, "_count")),
        (CountSource::PodSeconds, _) => None,
    }
}

/// The arms whose series a test needs.
pub(super) fn roles(test: &Test) -> Vec<Role> {
    let mut roles = vec![Role::Candidate];
    let mut compare = |reference: Option<Reference>| match reference {
        Some(Reference::Stable) => roles.push(Role::Stable),
        Some(Reference::Baseline) => roles.push(Role::Baseline),
        None => {}
    };
    match test {
        Test::Counts { target, critical, .. } => {
            // Stable is always read: it tells the world's trouble from the candidate's, and its own scatter sets the over-dispersion.
            compare(Some(Reference::Stable));
            compare(Some(count_reference(*target)));
            compare(Some(count_reference(*critical)));
        }
        Test::Level { target, critical, .. } => {
            compare(level_reference(*target));
            compare(level_reference(*critical));
        }
        // A gap or a drift on stable as well is the world's, not the candidate's.
        Test::Gap(_) | Test::Drift(_) | Test::Energy(_) | Test::Tripwire { .. } => compare(Some(Reference::Stable)),
        Test::Limit { critical, .. } => compare(critical.versus()),
        // Pairs are counted once, beside the candidate.
        Test::Paired(_) => {}
    }
    roles.sort();
    roles.dedup();
    roles
}

/// The arm a bound on counts compares with; an absolute bound looks at stable as well, so as not to blame the candidate for the world.
pub(super) const fn count_reference(bound: CountBound) -> Reference {
    match bound {
        CountBound::Difference { versus, .. } | CountBound::Ratio { versus, .. } => versus,
        CountBound::Absolute(_) => Reference::Stable,
    }
}

/// The arm a bound on a level compares with.
pub(super) const fn level_reference(bound: LevelBound) -> Option<Reference> {
    match bound {
        LevelBound::Difference { versus, .. } => Some(versus),
        LevelBound::Absolute(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn text(arm: &Arm, by: By<'_>) -> Option<String> {
        let matchers = vec![("code".to_owned(), MatchOp::Matches, "5..\\d\"".to_owned())];
        let selector = Selector { metric: "requests_total".into(), matchers };
        Sought { selector: Some(&selector), suffix: "", by }.query(arm).map(|q| q.to_string())
    }

    #[test]
    fn arms_with_the_default_labels_share_one_text() {
        let arm = |revision: &str| Arm { revision: Some(RevisionId::new(revision)), namespace: revision.into(), ..Arm::default() };
        let expected = r#"requests_total{code=~"5..\\d\"",espalier_dev_revision!=""}"#;
        assert_eq!(text(&arm("a"), By::Target), text(&arm("b"), By::Target));
        assert_eq!(text(&arm("a"), By::Target).unwrap(), expected);
    }

    #[test]
    fn other_arms_are_asked_by_their_labels_or_their_pods() {
        let matchers = BTreeMap::from([("job".to_owned(), "digits-fp32".to_owned())]);
        let by_job = Arm { matchers, revision: Some(RevisionId::new("baseline")), ..Arm::default() };
        assert!(text(&by_job, By::Target).unwrap().ends_with(r#"job="digits-fp32"}"#));
        let pods = BTreeSet::from(["m-1.x".to_owned(), "m-2".to_owned()]);
        let by_pod = Arm { pods, namespace: "ml".into(), revision: Some(RevisionId::new("baseline")), ..Arm::default() };
        assert!(text(&by_pod, By::Target).unwrap().ends_with(r#"namespace="ml",pod=~"m-1\\.x|m-2"}"#), "{:?}", text(&by_pod, By::Target));
        assert_eq!(text(&Arm::default(), By::Target), None, "an arm without pods has nothing to be asked for");
        assert!(text(&Arm::default(), By::PodLabel("exported_pod")).unwrap().ends_with(r#"exported_pod!=""}"#));
    }
}
