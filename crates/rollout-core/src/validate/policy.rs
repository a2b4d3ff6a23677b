//! The policy's half of the plan: server, risk, windows, counters.
//! Does not read the guardrails' bounds; [`super::guardrail`] does.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{Problems, guardrail, is_label, is_token, quoted};
use crate::plan::{self, RequestCounter};
use crate::profile;
use crate::quantity::{ShareText, duration_text, ranges};
use crate::spec::{Guardrail, PolicySpec, Prometheus, Risk, rules};

/// Risk when none is given.
const DEFAULT_RISK: f64 = 0.05;

/// What a policy means.
pub(super) struct Measured {
    pub(super) guardrails: Vec<plan::Guardrail>,
    pub(super) false_promotion: f64,
    pub(super) false_rollback: f64,
    pub(super) window: TimeDelta,
    pub(super) interval: TimeDelta,
    pub(super) settle: TimeDelta,
    pub(super) requests: Option<RequestCounter>,
}

/// The policy with its defaults; `None` when a part of it cannot be read, which `problems` then explains.
pub(super) fn resolve(policy: &PolicySpec, problems: &mut Problems) -> Option<Measured> {
    let before = problems.list.len();
    check_prometheus(&policy.prometheus, problems);
    let risk = policy.risk.clone().unwrap_or(Risk { false_promotion: None, false_rollback: None });
    let mut read_risk = |field: &str, text: Option<ShareText>| match text {
        None => Some(DEFAULT_RISK),
        Some(text) => {
            let read = text.risk().ok();
            problems.check(read.is_some(), field, quoted(text.as_str()), ShareText::expected_risk());
            read
        }
    };
    let false_promotion = read_risk("risk.falsePromotion", risk.false_promotion);
    let false_rollback = read_risk("risk.falseRollback", risk.false_rollback);

    let mut duration = |field, text: Option<&_>, range, default| match text {
        None => Some(default),
        Some(text) => problems.duration(field, text, range),
    };
    let window = duration("window", policy.window.as_ref(), ranges::WINDOW, TimeDelta::minutes(1));
    let interval = duration("interval", policy.interval.as_ref(), ranges::INTERVAL, TimeDelta::seconds(15));
    let timeout = duration("requestTimeout", policy.request_timeout.as_ref(), ranges::REQUEST_TIMEOUT, TimeDelta::zero());
    if let (Some(window), Some(interval)) = (window, interval) {
        problems.check(
            window >= interval,
            "window",
            quoted(&duration_text(window)),
            format!("at least one interval, {}", duration_text(interval)),
        );
    }

    let requests = policy.requests.as_ref().and_then(|requests| {
        let label = requests.backend_label.as_deref();
        problems.check(label.is_none_or(is_label), "requests.backendLabel", quoted(label.unwrap_or_default()), rules::LABEL);
        let series = problems.selector("requests.query", &requests.query)?;
        Some(RequestCounter { series, backend_label: requests.backend_label.clone() })
    });

    let guardrails = guardrails(policy, problems);
    if problems.list.len() > before {
        return None;
    }
    let window = window?;
    Some(Measured {
        guardrails,
        false_promotion: false_promotion?,
        false_rollback: false_rollback?,
        window,
        interval: interval?,
        settle: window.max(timeout?),
        requests,
    })
}

/// Those of the profile, then the user's.
fn guardrails(policy: &PolicySpec, problems: &mut Problems) -> Vec<plan::Guardrail> {
    let inherited = profile::inherited(policy);
    check_number(policy, inherited.len(), problems);
    let mut names = BTreeSet::new();
    for (index, guardrail) in policy.guardrails.iter().enumerate() {
        problems.check(
            names.insert(&guardrail.name),
            format_args!("guardrails[{index}].name"),
            format!("{} a second time", quoted(&guardrail.name)),
            "a name of its own for every guardrail",
        );
    }
    // They are read without a problem, as a test sees to.
    let read = |typed: &Guardrail| guardrail::resolve(0, typed, &mut Problems::below(problems.root));
    let mut guardrails: Vec<plan::Guardrail> = inherited.iter().filter_map(read).collect();
    guardrails.extend(policy.guardrails.iter().enumerate().filter_map(|(index, typed)| guardrail::resolve(index, typed, problems)));
    guardrails
}

fn check_number(policy: &PolicySpec, inherited: usize, problems: &mut Problems) {
    let own = policy.guardrails.len();
    let unknown = match policy.profile.and_then(profile::of) {
        None => {
            let first = policy.without.first();
            problems.check(first.is_none(), "without", quoted(first.map_or("", String::as_str)), "a profile beside it");
            problems.check(own <= profile::MAX_GUARDRAILS, "guardrails", own.to_string(), rules::GUARDRAILS);
            None
        }
        Some(profile) => {
            let most = profile::MAX_GUARDRAILS - profile::MAX_PROFILE;
            problems.check(own <= most, "guardrails", "more than 20", rules::BESIDE_PROFILE);
            let names: Vec<&str> = profile.names().collect();
            let unknown = policy.without.iter().find(|name| !names.contains(&name.as_str()));
            let expected = || format!("guardrails of the profile: {}", names.join(", "));
            problems.check(unknown.is_none(), "without", quoted(unknown.map_or("", String::as_str)), expected());
            unknown
        }
    };
    // Whoever misspells what is left out has not meant to leave out everything.
    problems.check(own + inherited > 0 || unknown.is_some(), "guardrails", "none", rules::GUARDRAILS);
}

fn check_prometheus(server: &Prometheus, problems: &mut Problems) {
    problems.check(is_address(&server.address), "prometheus.address", quoted(&server.address), rules::ADDRESS);
    if let Some(timeout) = &server.timeout {
        problems.duration("prometheus.timeout", timeout, ranges::PROMETHEUS_TIMEOUT);
    }
    problems.check(
        server.tls.is_none() || server.address.starts_with("https://"),
        "prometheus.tls",
        format!("tls for {}", server.address),
        "an address that starts with https://",
    );
    problems.check(server.bearer.is_none() || server.basic.is_none(), "prometheus", "bearer and basic", "at most one of bearer, basic");
    for (index, header) in server.headers.iter().enumerate() {
        problems.check(is_token(&header.name), format_args!("prometheus.headers[{index}].name"), quoted(&header.name), rules::TOKEN);
        problems.check(
            !header.name.eq_ignore_ascii_case("authorization"),
            "prometheus.headers",
            "Authorization",
            "bearer or basic, which keep the secret in a Secret",
        );
    }
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| text.len() <= 512 && !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '?', '#', '@']))
}
