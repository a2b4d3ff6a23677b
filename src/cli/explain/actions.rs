//! What a person can do now: exact commands, each only where the operator would take it.
//! Recommends nothing beyond the order: what goes on as it should comes before what ends it.

use rollout_core::decide::Verb;
use rollout_core::status::{Attempt, AttemptPhase, Status};
use serde::Serialize;

use crate::api::ModelRollout;
use crate::cli::request::subject;
use crate::cli::status::{condition, is, is_current};

/// One thing that can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Action {
    /// What it does, as a sentence.
    pub what: String,
    /// The command, when one command does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Names in commands.
struct Commands<'a> {
    rollout: &'a ModelRollout,
    name: String,
    namespace: String,
}

impl Commands<'_> {
    /// A request about exactly the revision that the reader sees here.
    fn request(&self, verb: Verb, word: &str, what: &str) -> Option<Action> {
        let revision = subject(verb, self.rollout).ok()?.revision;
        let command = format!("kubectl espalier {word} {}{} --candidate {revision}", self.name, self.namespace);
        Some(Action { what: what.to_owned(), command: Some(command) })
    }

    fn patch(&self, field: &str, value: &str, what: &str) -> Action {
        let command = format!("kubectl patch mro {}{} --type merge -p '{{\"spec\":{{\"{field}\":{value}}}}}'", self.name, self.namespace);
        Action { what: what.to_owned(), command: Some(command) }
    }

    fn look(&self, object: &str, what: &str) -> Action {
        Action { what: what.to_owned(), command: Some(format!("kubectl {object}{}", self.namespace)) }
    }
}

fn say(what: &str) -> Action {
    Action { what: what.to_owned(), command: None }
}

/// What can be done with a rollout in this state; never empty.
pub(super) fn actions(rollout: &ModelRollout, status: &Status) -> Vec<Action> {
    let commands = Commands {
        rollout,
        name: rollout.metadata.name.clone().unwrap_or_else(|| "NAME".to_owned()),
        namespace: rollout.metadata.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default(),
    };
    let mut found = repairs(&commands, status);
    if !is_current(rollout) {
        let command = "kubectl get pods -A -l app.kubernetes.io/name=espalier".to_owned();
        found.push(Action { what: "See whether the operator runs.".to_owned(), command: Some(command) });
    }
    if rollout.spec.suspend == Some(true) {
        found.push(commands.patch("suspend", "false", "Go on: exposure may rise again."));
    }
    match &status.attempt {
        Some(attempt) => found.extend(during(&commands, status, attempt)),
        None => found.extend(at_rest(&commands, status)),
    }
    if found.is_empty() {
        found.push(say("Nothing needs to be done."));
    }
    found
}

/// What puts right what stands in the way, by the reason that the conditions give.
fn repairs(commands: &Commands<'_>, status: &Status) -> Vec<Action> {
    let policy = &commands.rollout.spec.policy_ref.name;
    let reason = condition(status, "Ready").map_or("", |ready| ready.reason.as_str());
    match reason {
        "InvalidSpec" => {
            vec![say("Put the fields right that are named above; `espalier validate -f FILE` checks them before they are applied.")]
        }
        "PolicyNotFound" => {
            vec![commands.look(&format!("get evpol {policy}"), "Create the EvaluationPolicy, or name another one in spec.policyRef.")]
        }
        "HoldingInitial" => {
            vec![commands.patch(
                "initial",
                "\"Promote\"",
                "Let the revision of the spec serve without a trial, or name what serves in spec.baseline.",
            )]
        }
        "StableBackendMissing" => vec![commands.look("get svc", "See which Service is missing, and create it again if you run it.")],
        "TrafficNotApplied" => {
            vec![commands.look(&format!("get httproute {} -o yaml", commands.name), "See what the gateway says of the route.")]
        }
        "MetricsUnavailable" => vec![commands.look(
            &format!("get evpol {policy} -o yaml"),
            "See whether the Prometheus server of the policy answers, and whether it scrapes both models.",
        )],
        "CandidateUnready" => {
            let pods = status.candidate.as_ref().map(|c| format!("get pods -l espalier.dev/revision={}", c.revision));
            pods.map(|pods| commands.look(&pods, "See why the candidate's pods are not ready.")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn during(commands: &Commands<'_>, status: &Status, attempt: &Attempt) -> Vec<Action> {
    let mut found = Vec::new();
    if is(status, "Approved", "False") {
        found.push(commands.request(Verb::Approve, "approve", "Approve the stage that has passed."));
    }
    if attempt.phase != AttemptPhase::Promoting {
        if attempt.paused.is_some() {
            found.push(commands.request(Verb::Resume, "resume", "Go on after the pause."));
        } else if commands.rollout.spec.suspend != Some(true) {
            found.push(commands.request(Verb::Pause, "pause", "Hold exposure where it is; harm still rolls back."));
        }
        found.push(commands.request(
            Verb::Promote,
            "promote",
            "Promote it now, without waiting for proof: you take the risk that the statistics would bound.",
        ));
    }
    found.push(commands.request(Verb::Abort, "abort", "Take it off at once and reject it."));
    found.into_iter().flatten().collect()
}

fn at_rest(commands: &Commands<'_>, status: &Status) -> Vec<Action> {
    let mut found = Vec::new();
    if let Some(retry) = commands.request(Verb::Retry, "retry", "Try the rejected revision once more, at half the promotion risk.") {
        found.push(retry);
        found.push(say("Or apply another model, which is tried as a new revision; or the one that serves, which needs no trial."));
    }
    if status.probation.is_some() {
        found.extend(commands.request(Verb::Rollback, "rollback", "Return everybody to the old revision, which is still warm."));
    }
    found
}
