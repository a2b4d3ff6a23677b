//! The `HTTPRoute` that carries a rollout: rendered from the user's template or set into one rule of an existing route, and read back.
//! Works on plain JSON so that fields of any Gateway API version survive untouched. Does not read or write a cluster, and decides no weight.
//!
//! Shapes and their limits were tried against a live gateway; each arm answers with its revision in a header, a reference enters and
//! leaves at weight 0, and lowering changes numbers only.

mod accept;
mod adopt;
mod equal;
mod json;
mod live;
mod preflight;
mod render;
mod slice;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use accept::{Acceptance, acceptance, changed_at, managers};
pub use adopt::{adopt, release};
pub use equal::matches;
pub use live::{LiveExposure, exposure, lower, note, read_note, unprepared, with_spec};
pub use preflight::{conflicts, preflight};
pub use render::render;

use crate::plan::PlannedAssignment;
use crate::revision::RevisionId;
use crate::weights::Exposure;

/// Header, on request and response, that names the revision that answers.
pub const REVISION_HEADER: &str = "x-espalier-revision";
/// Header whose value picks the mirrored share where a gateway ignores the filter's own percentage.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Field manager of everything the operator writes.
pub const MANAGER: &str = "espalier";
/// Annotation that remembers what an adopted rule was, by rule.
pub const ADOPTED_ANNOTATION: &str = "espalier.dev/adopted";
/// Annotation with the decision that the last write carried out.
pub const DECISION_ANNOTATION: &str = "espalier.dev/decision";

/// A Service that answers for a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name of the Service, in the route's namespace.
    pub name: String,
    /// Port of the Service.
    pub port: i32,
    /// The revision behind it.
    pub revision: RevisionId,
}

/// What the rules of the model look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One revision answers everything.
    Single {
        /// It.
        stable: Backend,
    },
    /// Two weights. Exposure 0 is a dark start, 100 is promoted.
    Split {
        /// Serves the rest.
        stable: Backend,
        /// Serves the exposure.
        candidate: Backend,
        /// Share of the candidate.
        exposure: Exposure,
    },
    /// Stable answers everything; the candidate gets copies.
    Mirror {
        /// Answers.
        stable: Backend,
        /// Referenced at weight 0, and gets the copies.
        candidate: Backend,
        /// Share of requests that is copied, chosen by the request id; 100 copies all, 0 none.
        percent: Exposure,
    },
    /// A fixed, growing slice of users goes to the candidate; the other users go to a control Service over stable's pods; requests without
    /// an id go to stable and are in neither arm.
    Sticky {
        /// Serves requests without an id.
        stable: Backend,
        /// Serves the slice.
        candidate: Backend,
        /// Second Service over stable's pods, so that gateways count it apart; its revision is stable's.
        control: Backend,
        /// Where the user's id is.
        assignment: PlannedAssignment,
        /// Where the slice starts: fixed for one attempt, so that growth is monotone.
        offset: u8,
        /// Size of the slice; 0 has no rule for it, 100 is everybody, with or without an id.
        slice: Exposure,
        /// Whether control answers its rule; before that its Service is referenced there at weight 0.
        control_on: bool,
    },
}

impl Shape {
    /// Exposure of the candidate that this shape gives.
    pub const fn exposure(&self) -> Exposure {
        match self {
            Self::Single { .. } | Self::Mirror { .. } => Exposure::ZERO,
            Self::Split { exposure, .. } => *exposure,
            Self::Sticky { slice, .. } => *slice,
        }
    }
}

/// What stands between a user's route and a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    /// A part of the route has another JSON type than the Gateway API says.
    #[error("{field} of the route is not {expected}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// The type it should have.
        expected: &'static str,
    },
    /// Every rule of the template names backends.
    #[error("no rule of route.template is without backendRefs: leave backendRefs out of the rules that the model should answer")]
    NoModelRule,
    /// The adopted rule does not exist.
    #[error("the route has no rule {rule:?}: name a rule, or give its index from 0")]
    NoSuchRule {
        /// As the user wrote it.
        rule: String,
    },
    /// The rule has our references, but what it was before is not remembered.
    #[error(
        "rule {rule:?} was adopted, but the annotation espalier.dev/adopted that remembers its backendRefs is gone: put the rule's own \
         backendRefs back and it is adopted anew"
    )]
    MemoryLost {
        /// As the user wrote it.
        rule: String,
    },
    /// A match of the rule already uses the header that a copy needs.
    #[error(
        "rule {rule} matches on header {header} already, and one match can name a header once: take the header out, or use another one"
    )]
    HeaderTaken {
        /// Name or index of the rule.
        rule: String,
        /// The header.
        header: String,
    },
    /// More rules than the API server takes.
    #[error("with the rules for {stage} the route has {found} rules, at most 16 are allowed: use fewer rules in the route")]
    TooManyRules {
        /// Name of the stage.
        stage: String,
        /// Rules in all.
        found: usize,
    },
    /// More matches than the API server takes.
    #[error("with the rules for {stage} the route has {found} matches, at most 128 in all and 64 per rule are allowed: use fewer matches")]
    TooManyMatches {
        /// Name of the stage.
        stage: String,
        /// Matches in all, or in the rule with the most.
        found: usize,
    },
    /// Two rules with one name.
    #[error("two rules are named {name:?}, and names must be unique: rename the rule")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A copy would take requests from another rule.
    #[error(
        "the rule for {stage} matches one header more than rule {rule} and would take requests from {other}, which wins today: give that \
         rule a header match too, or leave the stage out"
    )]
    Outranks {
        /// Name of the stage.
        stage: String,
        /// Name or index of the rule that is copied.
        rule: String,
        /// The rule that would lose.
        other: String,
    },
    /// Another route answers the same requests.
    #[error(
        "route {other} answers the same host and match as rule {rule}: only one of them gets the traffic, so shares would not be as written"
    )]
    SameMatch {
        /// Name or index of the rule.
        rule: String,
        /// Name of the other route.
        other: String,
    },
}

impl RouteProblem {
    /// A fixed word for conditions, metrics and events.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "RouteMalformed",
            Self::NoModelRule => "NoModelRule",
            Self::NoSuchRule { .. } => "NoSuchRule",
            Self::MemoryLost { .. } => "AdoptionLost",
            Self::HeaderTaken { .. } => "HeaderTaken",
            Self::TooManyRules { .. } | Self::TooManyMatches { .. } => "RouteTooLarge",
            Self::DuplicateName { .. } => "DuplicateRuleName",
            Self::Outranks { .. } => "RuleOutranked",
            Self::SameMatch { .. } => "RouteConflict",
        }
    }
}

/// The decision that a route carries, from which a restarted operator completes the latch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionNote {
    /// Id of the decision.
    pub id: String,
    /// The revision it is about.
    pub revision: RevisionId,
    /// What was done.
    pub action: String,
    /// Reason in a word.
    pub reason: String,
}

/// Which rules a rollout manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The rules without backendRefs of the user's template.
    Template,
    /// One rule of an existing route, by name or index.
    Adopted(&'a str),
}
