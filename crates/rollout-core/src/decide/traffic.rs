//! The route as a decision: the object that carries a shape, and the proof that writing it does not raise what was not proven.
//! Does not choose shapes; the paths in the sibling files do.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::revision::RevisionId;
use crate::route::{self, Acceptance, DecisionNote, Shape};
use crate::status::Serving;
use crate::weights::{Exposure, Grounds, RaiseTicket};

use super::draft::{AT_ONCE, DRAIN, Draft, SOON};
use super::shapes::control_name;
use super::{Situation, Write};

/// How long a gateway is waited for by what cannot go on without it, and must go on some time.
const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(30);

/// A new content of the route. Can only be made when it gives no unproven Service more than it has, or with a ticket for exactly one raise.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteWrite {
    object: Value,
    ticket: Option<RaiseTicket>,
}

impl RouteWrite {
    /// A write that gives none of the Services `suspects` more than it has; `None` when it would.
    pub(super) fn lowering(live: Option<&Value>, object: Value, suspects: &BTreeSet<String>) -> Option<Self> {
        suspects.iter().all(|suspect| share(&object, suspect) <= before(live, suspect)).then_some(Self { object, ticket: None })
    }

    /// A write that raises the Service `subject` to no more than the ticket allows and no other suspect at all; `None` when it would.
    pub(super) fn raising(
        ticket: RaiseTicket,
        live: Option<&Value>,
        object: Value,
        subject: &str,
        suspects: &BTreeSet<String>,
    ) -> Option<Self> {
        let others = suspects.iter().filter(|suspect| *suspect != subject);
        let mut others = others.map(|suspect| share(&object, suspect) <= before(live, suspect));
        (share(&object, subject) <= ticket.to() && others.all(|kept| kept)).then_some(Self { object, ticket: Some(ticket) })
    }

    /// An adopted route as its owner had it: what the owner's own rules say is the owner's.
    pub(super) const fn release(object: Value) -> Self {
        Self { object, ticket: None }
    }

    /// The whole HTTPRoute to write; its `metadata.resourceVersion` is that of the route it was made from, absent for a new one.
    pub const fn object(&self) -> &Value {
        &self.object
    }

    /// The ticket, when it is a raise; it must still be fresh when the write goes out.
    pub const fn ticket(&self) -> Option<&RaiseTicket> {
        self.ticket.as_ref()
    }
}

fn share(object: &Value, service: &str) -> Exposure {
    route::exposure(object, service).share
}

fn before(live: Option<&Value>, service: &str) -> Exposure {
    live.map_or(Exposure::ZERO, |live| share(live, service))
}

fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

/// What became of a wish to have the route in a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is so already.
    InPlace,
    /// A write that leads there was added.
    Written,
    /// Another write has to be taken by the gateway first.
    Waiting(String),
    /// It cannot be; the sentence says why.
    Failed(String),
}

impl Draft<'_> {
    /// Share of users that the live route sends to this Service.
    pub fn live_share(&self, service: &str) -> Exposure {
        before(self.seen.route.as_ref(), service)
    }

    /// Whether the live route names this Service, at any weight.
    pub fn is_referenced(&self, service: &str) -> bool {
        self.seen.route.as_ref().is_some_and(|live| route::exposure(live, service).referenced)
    }

    /// Whether every gateway has taken the route as it is.
    pub fn acceptance(&self) -> Acceptance {
        self.seen.route.as_ref().map_or(Acceptance::Pending("the HTTPRoute does not exist yet".into()), route::acceptance)
    }

    /// Whether some gateway has not said yet what it makes of the last write, and has not had long enough for it either.
    pub fn awaits_gateway(&self) -> bool {
        if !matches!(self.acceptance(), Acceptance::Pending(_)) {
            return false;
        }
        let on_record = self.seen.status.conditions.iter().find(|c| c.kind == "TrafficApplied" && c.status != "True");
        on_record.is_none_or(|c| self.now - c.last_transition_time <= LONGEST_WAIT)
    }

    /// Who else writes the rules of the route, for people.
    pub fn editors(&self) -> Option<String> {
        let names = self.seen.route.as_ref().map(route::managers).unwrap_or_default();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Whether the live route has this shape already.
    pub fn is_in(&self, shape: &Shape) -> bool {
        matches!(self.object(shape), Ok(None))
    }

    /// Services of revisions that are not proven: none of them may get more without a ticket.
    fn suspects(&self) -> BTreeSet<String> {
        let revisions: BTreeSet<&RevisionId> = self.seen.recorded.iter().chain(self.seen.workloads.keys()).collect();
        let mut names: BTreeSet<String> = revisions.into_iter().filter(|r| !r.is_baseline()).map(|r| self.child(r)).collect();
        names.insert(self.desired_serving().service);
        names.extend(self.status.candidate.as_ref().map(|c| c.service.clone()));
        for trusted in self.trusted() {
            names.remove(&trusted);
        }
        names
    }

    /// Services of what serves and of what served until now.
    fn trusted(&self) -> Vec<String> {
        let probation = self.status.probation.as_ref().map(|p| &p.previous);
        let serving = self.status.stable.iter().chain(probation).chain(self.draining());
        serving.flat_map(|s| [s.service.clone(), control_name(&self.seen.name, &s.revision)]).collect()
    }

    /// What served until the roles were swapped: it may still answer requests that it has, and its rules are taken back one by one.
    pub fn draining(&self) -> Option<&Serving> {
        let (stable, previous) = (self.status.stable.as_ref()?, self.status.history.first()?);
        let on_trial = self.status.candidate.as_ref().is_some_and(|c| c.revision == previous.revision);
        let young = self.now - previous.since < DRAIN || self.is_referenced(&control_name(&self.seen.name, &previous.revision));
        (previous.since == stable.since && young && !on_trial).then_some(previous)
    }

    fn has_route_write(&self) -> bool {
        self.first.iter().chain(&self.then).any(|write| matches!(write, Write::Route(_)))
    }

    /// Puts the route in this shape without raising anything unproven and without losing requests: what is loaded is emptied first, and a
    /// reference leaves only when the gateway has taken that.
    pub fn place(&mut self, shape: &Shape) -> Placed {
        let object = match self.object(shape) {
            Ok(Some(object)) => object,
            Ok(None) => return Placed::InPlace,
            Err(problem) => return Placed::Failed(problem),
        };
        let Some(live) = &self.seen.route else { return self.write(object) };
        if !route::unprepared(live, spec(&object)).is_empty() {
            // Without a way to empty it first, somebody else has replaced what serves: that is put back at once.
            let emptied = self.emptied(live, &object);
            return self.write(emptied.unwrap_or(object));
        }
        if let (true, Acceptance::Pending(why)) = (drops(live, &object), self.acceptance()) {
            self.check_in(SOON);
            return Placed::Waiting(why);
        }
        self.write(object)
    }

    /// Puts the route in this shape at once: only for what takes users off.
    pub fn place_now(&mut self, shape: &Shape) -> Placed {
        match self.object(shape) {
            Ok(Some(object)) => self.write(object),
            Ok(None) => Placed::InPlace,
            Err(problem) => Placed::Failed(problem),
        }
    }

    fn write(&mut self, object: Value) -> Placed {
        if self.has_route_write() {
            self.check_in(AT_ONCE);
            return Placed::Waiting("another write of the route goes first".into());
        }
        match RouteWrite::lowering(self.seen.route.as_ref(), object, &self.suspects()) {
            Some(write) => {
                self.check_in(SOON);
                self.first.push(Write::Route(write));
                Placed::Written
            }
            None => Placed::Failed(
                "writing the route would send users to a revision that has not passed: a rule of yours names its Service; take it out"
                    .into(),
            ),
        }
    }

    /// The live route with everything that `wanted` leaves out emptied by numbers alone, when that is all it takes.
    fn emptied(&self, live: &Value, wanted: &Value) -> Option<Value> {
        let mut result = live.clone();
        let keepers = self.trusted();
        for leaving in route::unprepared(live, spec(wanted)) {
            for keeper in keepers.iter().filter(|keeper| route::exposure(wanted, keeper).referenced) {
                result = route::lower(&result, &leaving, keeper);
            }
        }
        route::unprepared(&result, spec(wanted)).is_empty().then_some(result)
    }

    /// Raises as the ticket allows; the write goes out after the status.
    pub fn raise(&mut self, shape: &Shape, ticket: RaiseTicket, subject: &str, note: &DecisionNote) -> Placed {
        let mut object = match self.object(shape) {
            Ok(Some(object)) => object,
            Ok(None) => return Placed::InPlace,
            Err(problem) => return Placed::Failed(problem),
        };
        if self.has_route_write() {
            self.check_in(AT_ONCE);
            return Placed::Failed("another write of the route goes first".into());
        }
        let live = self.seen.route.as_ref();
        let unknown = live.map(|live| route::unprepared(live, spec(&object))).unwrap_or_default();
        if !unknown.is_empty() && *ticket.grounds() != Grounds::InitialDeployment {
            return Placed::Failed(format!("the gateway does not know {} yet, or it still carries requests", unknown.join(", ")));
        }
        route::note(&mut object, note);
        match RouteWrite::raising(ticket, live, object, subject, &self.suspects()) {
            Some(write) => {
                self.check_in(SOON);
                self.then.push(Write::Route(write));
                Placed::Written
            }
            None => Placed::Failed("the shape gives more than the ticket allows".into()),
        }
    }

    /// Takes all users off the Service `subject`, now: numbers only where that is enough, else `dark` rendered anew. Says whether anything
    /// was left to write.
    pub fn zero(&mut self, subject: &str, stable: &str, dark: &Shape, note: &DecisionNote) -> bool {
        let Some(live) = &self.seen.route else { return false };
        if share(live, subject) == Exposure::ZERO {
            return false;
        }
        let lowered = route::lower(live, subject, stable);
        let left = share(&lowered, subject);
        let anew = self.object(dark).ok().flatten().filter(|anew| share(anew, subject) < left);
        let mut object = anew.unwrap_or(lowered);
        if object == *live {
            return false;
        }
        route::note(&mut object, note);
        let Some(write) = RouteWrite::lowering(Some(live), object, &BTreeSet::from([subject.to_owned()])) else { return false };
        for writes in [&mut self.first, &mut self.then] {
            writes.retain(|write| !matches!(write, Write::Route(_)));
        }
        self.first.push(Write::Route(write));
        self.check_in(AT_ONCE);
        true
    }

    /// The HTTPRoute in this shape, or `None` when the live one has it already.
    fn object(&self, shape: &Shape) -> Result<Option<Value>, String> {
        if let Some(adopted) = &self.seen.spec.route.adopt {
            let live = self
                .seen
                .route
                .as_ref()
                .ok_or_else(|| format!("HTTPRoute {} does not exist; create it or use route.template", adopted.name))?;
            let object = route::adopt(live, adopted.rule.as_deref().unwrap_or("0"), shape).map_err(|e| e.to_string())?;
            let same = object.get("spec").is_some_and(|spec| route::matches(live, spec));
            return Ok((!same).then_some(object));
        }
        let template = self.seen.spec.route.template.as_ref().ok_or("spec.route has neither template nor adopt")?;
        let spec = route::render(template, shape).map_err(|e| e.to_string())?;
        match &self.seen.route {
            None => Ok(Some(self.new_route(&spec))),
            Some(live) if !self.owns(live) => Err(format!(
                "an HTTPRoute named {} exists and belongs to somebody else; rename the ModelRollout, delete that route, or use route.adopt",
                self.seen.name
            )),
            Some(live) if route::matches(live, &spec) => Ok(None),
            Some(live) => Ok(Some(route::with_spec(live, spec))),
        }
    }

    /// Whether the live route is controlled by this rollout, or was by its deleted predecessor of the same name.
    fn owns(&self, live: &Value) -> bool {
        let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let orphan = owners.is_none_or(Vec::is_empty)
            && live.pointer("/metadata/labels/espalier.dev~1rollout").and_then(Value::as_str) == Some(self.seen.name.as_str());
        orphan || self.controls(live)
    }

    /// Whether this very rollout, not a predecessor of the same name, controls the live route.
    pub fn controls(&self, live: &Value) -> bool {
        let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.is_some_and(|o| o.iter().any(|r| r.get("uid").and_then(Value::as_str) == Some(self.seen.uid.as_str())))
    }

    fn new_route(&self, spec: &Value) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {
                "name": self.seen.name,
                "namespace": self.seen.namespace,
                "labels": {"espalier.dev/rollout": self.seen.name, "app.kubernetes.io/managed-by": "espalier"},
                "ownerReferences": [{
                    "apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "name": self.seen.name, "uid": self.seen.uid,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": spec,
        })
    }
}

/// Whether a Service that the live route names is not named any more.
fn drops(live: &Value, wanted: &Value) -> bool {
    let names = |object: &Value| -> BTreeSet<String> {
        let rules = spec(object).get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let refs = rules.iter().filter_map(|rule| rule.get("backendRefs")?.as_array()).flatten();
        refs.filter_map(|reference| Some(reference.get("name")?.as_str()?.to_owned())).collect()
    };
    !names(live).is_subset(&names(wanted))
}

/// The situation that a refused or unfinished route makes.
pub fn not_applied(draft: &mut Draft<'_>, why: String) -> Situation {
    draft.check_in(TimeDelta::seconds(5));
    Situation::TrafficNotApplied(why)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn route(b: i32, c: i32) -> Value {
        json!({"spec": {"rules": [{"backendRefs": [
            {"name": "a", "weight": 100 - b - c}, {"name": "b", "weight": b}, {"name": "c", "weight": c},
        ]}]}})
    }

    #[test]
    fn a_raise_gives_its_subject_no_more_than_the_ticket_and_no_other_suspect_anything() {
        let suspects = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        let five = Exposure::new(5).unwrap();
        for (b, c, allowed) in [(5, 0, true), (4, 0, true), (6, 0, false), (5, 1, false), (6, 1, false)] {
            let ticket = RaiseTicket::new(RevisionId::new("b"), five, Grounds::ServedBefore, DateTime::UNIX_EPOCH);
            let write = RouteWrite::raising(ticket, Some(&route(0, 0)), route(b, c), "b", &suspects);
            assert_eq!(write.is_some(), allowed, "b gets {b}%, c gets {c}%");
        }
    }

    #[test]
    fn without_a_ticket_no_suspect_gets_more_than_it_has() {
        let suspects = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        for (b, c, allowed) in [(5, 5, true), (0, 0, true), (6, 0, false), (0, 6, false)] {
            let write = RouteWrite::lowering(Some(&route(5, 5)), route(b, c), &suspects);
            assert_eq!(write.is_some(), allowed, "b gets {b}%, c gets {c}%");
        }
    }
}
