//! What a rollout does next: one total function from what was seen and judged to the next status and the writes that lead there.
//!
//! Deliberately absent: waiting for anything before exposure is lowered; raising without a [`crate::weights::RaiseTicket`]; reading a clock.
//! Write order: `first` (everything that lowers, and what must exist), then the status, then `then` (everything that raises).
//! One decision holds one transition at most, and at most one write of the route: both belong to the objects as they were seen.

mod attempt;
mod conditions;
mod draft;
mod notes;
mod report;
mod request;
mod risk;
mod settled;
mod shapes;
mod traffic;

use chrono::{DateTime, TimeDelta, Utc};

use crate::observed::Observed;
use crate::plan::Plan;
use crate::revision::RevisionId;
use crate::status::{Serving, Status};
use crate::validate::Problem;
use crate::verdict::Judgement;

use draft::Draft;
pub use notes::escape;
pub use request::{Request, Verb};
pub use shapes::control_name;
pub use traffic::RouteWrite;

/// What to do now.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Writes that go out before the status, in order; what lowers is at the front.
    pub first: Vec<Write>,
    /// The next status; equal to the stored one when there is nothing to record.
    pub status: Status,
    /// Writes that go out after the status, in order: the raises.
    pub then: Vec<Write>,
    /// One per transition.
    pub events: Vec<Event>,
    /// What the object is in, for metrics and tests; the status says it in conditions.
    pub situation: Situation,
    /// When to look again if nothing happens before; never zero.
    pub next_check: TimeDelta,
}

/// One write to the cluster. Every write is idempotent.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Set or remove our finalizer.
    Finalizer(bool),
    /// Create or repair the workload, Service and record of a revision, at the scale of the spec.
    Ensure(RevisionId),
    /// Create the control Service over the pods of this arm.
    EnsureControl(Serving),
    /// Scale a revision to zero and keep it.
    Park(RevisionId),
    /// Scale a revision to one replica.
    Reduce(RevisionId),
    /// Delete a revision that is of no use any more.
    Delete(RevisionId),
    /// Write the route.
    Route(RouteWrite),
}

/// Something a person may want to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// A fixed word; one reason is one situation.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// A sentence with the numbers.
    pub message: String,
}

/// What the status says about the object as a whole. Every situation maps to one row of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Being deleted.
    Terminating(String),
    /// The spec or the policy cannot be used; the sentences say why.
    Invalid(String),
    /// The policy is not there.
    PolicyMissing(String),
    /// Nothing serves yet, the first revision is coming up.
    Initializing(String),
    /// Nothing serves, and nothing may without a person.
    HoldingInitial(String),
    /// An attempt is running.
    Running(String),
    /// An attempt waits for approval.
    AwaitingApproval(String),
    /// An attempt is paused.
    Paused(String),
    /// The rollout is suspended.
    Suspended(String),
    /// Measurements are missing; exposure holds or was lowered.
    Blind(String),
    /// The candidate's endpoints are gone; exposure was lowered.
    CandidateUnready(String),
    /// The gateway has not taken the route, or somebody else changed it.
    TrafficNotApplied(String),
    /// The model of the spec serves everybody.
    Promoted(String),
    /// The model of the spec was rejected.
    RolledBack(String),
    /// The backend that serves is gone.
    StableMissing(String),
}

/// Decides. Total and deterministic: the same values give the same decision, byte for byte.
pub fn decide(seen: &Observed, plan: &Result<Plan, Vec<Problem>>, judgement: Option<&Judgement>, now: DateTime<Utc>) -> Decision {
    let mut draft = Draft::new(seen, plan.as_ref().ok(), judgement, now);
    let situation = situation(&mut draft, plan);
    report::fill(&mut draft, &situation);
    draft.finish(situation)
}

fn situation(draft: &mut Draft<'_>, plan: &Result<Plan, Vec<Problem>>) -> Situation {
    if draft.seen.deleting {
        return settled::release(draft);
    }
    if !draft.seen.has_finalizer {
        draft.first.push(Write::Finalizer(true));
    }
    notes::complete(draft)
        .or_else(|| request::answer(draft))
        .or_else(|| settled::unusable(draft, plan))
        .or_else(|| settled::establish_stable(draft))
        .or_else(|| settled::leave_probation(draft))
        .or_else(|| attempt::start_or_cancel(draft))
        .unwrap_or_else(|| match draft.status.attempt.clone() {
            Some(running) => attempt::progress(draft, &running),
            None => settled::keep(draft),
        })
}
