//! One rollout of a random story: how it runs, what becomes of it, who does what to it and when, and what must be true of it in the end.
//! Everything is drawn before the run begins, so that the same seed is the same run.

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::route;
use serde_json::{Value, json};

use crate::cluster::{Model, ready_pods};
use crate::dice::Dice;
use crate::oracle::Harm;
use crate::people;
use crate::prometheus::service_of;
use crate::store::{DEPLOYMENTS, Place, ROLLOUTS, text};
use crate::stories::{NAME, NAMESPACE, apply, kept_of_templates, ready, rollout_of, serves, settled, share, uri};
use crate::world::World;

/// What the story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    Good,
    WrongFromTheStart,
    WrongLater,
    Flipping,
    NotFinite,
    NeverReady,
    Killed,
    Replaced,
    Deleted,
    Aborted,
    Suspended,
    Paused,
    Promoted,
    Approved,
    Retried,
    Returned,
    Reverted,
    PolicyEdited,
    PolicyLost,
    StagesEdited,
    Fought,
    Vandalised,
    Overwritten,
}

const PLOTS: [Plot; 27] = [
    Plot::Good,
    Plot::Good,
    Plot::Good,
    Plot::WrongFromTheStart,
    Plot::WrongLater,
    Plot::WrongLater,
    Plot::Flipping,
    Plot::NotFinite,
    Plot::NotFinite,
    Plot::NeverReady,
    Plot::Killed,
    Plot::Replaced,
    Plot::Deleted,
    Plot::Deleted,
    Plot::Aborted,
    Plot::Suspended,
    Plot::Paused,
    Plot::Promoted,
    Plot::Approved,
    Plot::Retried,
    Plot::Returned,
    Plot::Reverted,
    Plot::PolicyEdited,
    Plot::PolicyLost,
    Plot::StagesEdited,
    Plot::Fought,
    Plot::Overwritten,
];

/// Who runs the pods, and whose the route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Owned,
    Adopted,
    UserRun,
}

/// One rollout.
#[derive(Clone, Debug)]
pub struct Role {
    pub place: Place,
    pub kind: Kind,
    pub plot: Plot,
    /// When its candidate is applied, after the start of the trial.
    pub offset: TimeDelta,
    number: usize,
    stages: Value,
}

/// When somebody acts.
#[derive(Clone, Copy, Debug)]
enum When {
    After(TimeDelta),
    /// A moment after the attempt is in this phase.
    In(&'static str, TimeDelta),
    Probation(TimeDelta),
}

fn stages(dice: &mut Dice, plot: Plot) -> Value {
    let canary = |steps: &[&str]| json!({"name": "canary", "type": "Canary", "steps": steps, "stepMinDuration": "1m", "maxDuration": "2h"});
    let shadow = json!({"name": "shadow", "type": "Shadow", "percent": "100%", "minDuration": "1m", "maxDuration": "1h"});
    let ab = json!({"name": "ab", "type": "ABTest", "percent": "30%", "minDuration": "1m", "maxDuration": "2h",
        "assignment": {"header": "x-user-id", "alphabet": "hex"}});
    let mut stages = match dice.roll(12) {
        0 => json!([canary(&["1%", "10%", "50%"])]),
        1 => json!([shadow, canary(&["10%"])]),
        2 => json!([canary(&["5%"]), ab]),
        3 => json!([shadow, canary(&["5%"]), ab]),
        4..=7 => json!([canary(&["20%"])]),
        _ => json!([canary(&["5%", "25%"])]),
    };
    if plot == Plot::Flipping {
        // Half of all windows are as good as stable's: that is no harm beyond doubt, and no proof for as long as it may take.
        stages.as_array_mut().into_iter().flatten().for_each(|stage| stage["maxDuration"] = json!("8m"));
    }
    if plot == Plot::Approved {
        stages[0]["approval"] = json!("Required");
    }
    stages
}

impl Role {
    pub fn draw(number: usize, dice: &mut Dice) -> Self {
        let plot = *dice.pick(&PLOTS);
        let plot = if plot == Plot::Fought && dice.chance(50) { Plot::Vandalised } else { plot };
        let kind = *dice.pick(&[Kind::Owned, Kind::Owned, Kind::Owned, Kind::Owned, Kind::Adopted, Kind::UserRun]);
        // A Service of the user has no pods of ours to lose, was ready before, and has no template to come back to.
        let kind = if matches!(plot, Plot::Reverted | Plot::Vandalised | Plot::NeverReady) { Kind::Owned } else { kind };
        let name = if number == 0 { NAME.to_owned() } else { format!("{NAME}-{number}") };
        let (offset, stages) = (TimeDelta::seconds(dice.between(0, 60)), stages(dice, plot));
        Self { place: (NAMESPACE.to_owned(), name), kind, plot, offset, number, stages }
    }

    pub fn letter(&self, letter: &str) -> String {
        format!("{letter}{}", self.number)
    }

    fn own(&self, letter: &str) -> String {
        format!("own-{}", self.letter(letter))
    }

    /// The rollout with the model of this letter.
    pub fn spec(&self, letter: &str) -> Value {
        let mut object = rollout_of(&self.place.1, &self.letter(letter));
        let spec = &mut object["spec"];
        let own = self.own("a");
        if self.kind != Kind::Owned {
            spec["baseline"] = json!({"backendRef": {"name": own, "port": 8080}, "matchers": {"app": own}});
        }
        if self.kind == Kind::Adopted {
            spec["route"] = json!({"adopt": {"name": format!("route-{}", self.number), "rule": "model"}});
        }
        if self.kind == Kind::UserRun {
            let own = self.own(letter);
            spec["workload"] = json!({"backendRef": {"name": own, "port": 8080}, "matchers": {"app": own}});
        }
        spec["stages"] = self.stages.clone();
        spec["probation"] = json!({"duration": "2m"});
        // Longer than any downtime: the deadline goes on while pods are not ready.
        spec["progressDeadline"] = json!("6m");
        object
    }

    /// What is there before the candidate: a first revision of ours, or what the user runs.
    pub fn prepare(&self, world: &mut World) {
        let kept = match self.kind {
            Kind::Adopted => {
                let spec = people::own_route_spec("", "");
                vec![("/spec/rules/0/timeouts", spec["rules"][0]["timeouts"].clone()), ("/spec/rules/1", spec["rules"][1].clone())]
            }
            _ => kept_of_templates(),
        };
        world.oracle.of(&self.place).kept = kept;
        if self.kind != Kind::Owned {
            people::own_service(world, &self.own("a"), &self.letter("a"));
        }
        match self.kind {
            Kind::Owned => apply(world, &self.spec("a")),
            Kind::Adopted => people::own_route(world, &format!("route-{}", self.number), &self.own("a")),
            Kind::UserRun => {
                for letter in ["b", "c"] {
                    people::own_service(world, &self.own(letter), &self.letter(letter));
                }
            }
        }
    }

    /// Whether the candidate may be applied.
    pub fn is_prepared(&self, world: &World) -> bool {
        let live = world.store.get(ROLLOUTS, &self.place.0, &self.place.1);
        self.kind != Kind::Owned || live.is_some_and(|live| ready(live) == ("True".to_owned(), "Promoted".to_owned()))
    }

    /// The candidate's model, and from when on it must be gone.
    fn model(&self, dice: &mut Dice, applied: DateTime<Utc>, interval: i64) -> (Model, Option<Harm>) {
        let later = applied + TimeDelta::seconds(dice.between(25, 200));
        let harm = |bound| Some(Harm { letter: self.letter("b"), from: later, bound: TimeDelta::seconds(bound) });
        match self.plot {
            Plot::WrongFromTheStart => (Model { bad: 0.3, ..Model::default() }, None),
            Plot::Flipping => (Model { flips: true, ..Model::default() }, None),
            Plot::WrongLater => (Model { worse_from: Some((later, 0.6)), ..Model::default() }, harm(210 + 2 * interval)),
            // A scrape, a glance, the gateway's time, and what nobody may need.
            Plot::NotFinite => (Model { nonfinite_from: Some(later), ..Model::default() }, harm(17 + interval)),
            Plot::NeverReady => (Model { startup: None, ..Model::default() }, None),
            Plot::Killed | Plot::Retried => {
                (Model { killed_after: Some(TimeDelta::seconds(dice.between(20, 200))), ..Model::default() }, None)
            }
            _ => (Model::default(), None),
        }
    }

    fn when(&self, dice: &mut Dice) -> When {
        let moment = TimeDelta::seconds(dice.between(0, 25));
        match (self.plot, dice.roll(8)) {
            (Plot::Returned, _) => When::Probation(moment),
            (_, 0) => When::In("Deploying", TimeDelta::milliseconds(dice.between(0, 4000))),
            (_, 1) => When::In("Preparing", TimeDelta::milliseconds(dice.between(0, 2000))),
            (_, 2) => When::In("Judging", moment),
            (_, 3) => When::In("Promoting", TimeDelta::milliseconds(dice.between(0, 1000))),
            (_, 4) if self.plot == Plot::Deleted => When::Probation(moment),
            _ => When::After(TimeDelta::seconds(dice.between(15, 200))),
        }
    }

    /// The trial: the model, the candidate, and what people do.
    pub fn begin(&self, world: &mut World, dice: &mut Dice, from: DateTime<Utc>, interval: i64) {
        let applied = from + self.offset;
        let (model, harm) = self.model(dice, applied, interval);
        world.cluster.models.insert(self.letter("b"), model);
        let subject = world.oracle.of(&self.place);
        subject.harm = harm;
        let candidate = self.spec("b");
        world.script(applied, move |world| apply(world, &candidate));
        for (when, act) in self.acts(dice) {
            self.schedule(world, applied, when, act);
        }
        if dice.chance(6) {
            let (place, weight) = (self.place.clone(), dice.between(0, 100));
            let when = When::After(TimeDelta::seconds(dice.between(30, 400)));
            self.schedule(world, applied, when, act(move |world| people::foreign(world, &place, weight)));
        }
    }

    fn schedule(&self, world: &mut World, applied: DateTime<Utc>, when: When, act: Act) {
        let place = self.place.clone();
        let wanted = match when {
            When::After(wait) => {
                world.script(applied + wait, act);
                return;
            }
            When::In(phase, _) => phase,
            When::Probation(_) => "",
        };
        let (When::In(_, moment) | When::Probation(moment) | When::After(moment)) = when;
        let there = move |world: &World| {
            let Some(live) = world.store.get(ROLLOUTS, &place.0, &place.1) else { return false };
            if wanted.is_empty() {
                live.pointer("/status/probation").is_some_and(|probation| !probation.is_null())
            } else {
                text(live, "/status/attempt/phase") == wanted
            }
        };
        world.once(there, move |world| {
            let at = world.now + moment;
            world.script(at, act);
        });
    }

    /// What is done to this rollout, and when.
    fn acts(&self, dice: &mut Dice) -> Vec<(When, Act)> {
        let when = self.when(dice);
        let later = TimeDelta::seconds(dice.between(5, 200));
        let place = self.place.clone();
        let again = |when: When, first: Act, second: Act| -> Vec<(When, Act)> {
            let both = act(move |world| {
                first(world);
                let at = world.now + later;
                world.script(at, second);
            });
            vec![(when, both)]
        };
        let asks = |action: &'static str| -> Act {
            let place = place.clone();
            act(move |world| people::ask(world, &place, action, action))
        };
        let edits = |what: &'static str, path: &'static str, to: Value| -> Act {
            let place = place.clone();
            act(move |world| people::edit_spec(world, &place, what, |spec| spec[path] = to))
        };
        match self.plot {
            Plot::Replaced => {
                let next = self.spec("c");
                vec![(when, act(move |world| people::reapply(world, &next, "new candidate")))]
            }
            Plot::Reverted => {
                let old = self.spec("a");
                vec![(when, act(move |world| people::reapply(world, &old, "back to stable")))]
            }
            Plot::Deleted => vec![(when, act(move |world| people::delete(world, &place)))],
            Plot::Aborted => vec![(when, asks("abort"))],
            Plot::Promoted => vec![(When::In("Judging", later), asks("promote"))],
            Plot::Returned => vec![(when, asks("rollback"))],
            Plot::Paused => again(when, asks("pause"), asks("resume")),
            Plot::Suspended => again(when, edits("suspend", "suspend", json!(true)), edits("end of suspend", "suspend", json!(false))),
            Plot::StagesEdited => {
                let steps = json!([{"name": "canary", "type": "Canary", "steps": ["30%"], "stepMinDuration": "1m", "maxDuration": "2h"}]);
                vec![(when, edits("stages edit", "stages", steps))]
            }
            Plot::PolicyEdited => vec![(when, act(people::edit_policy))],
            Plot::PolicyLost => vec![(when, act(move |world| people::lose_policy(world, later)))],
            Plot::Fought => {
                let weight = dice.between(0, 100);
                let fight = |place: Place| -> Act { act(move |world| people::foreign(world, &place, weight)) };
                again(when, fight(place.clone()), fight(place.clone()))
            }
            Plot::Vandalised => {
                let mut own = Dice::new(dice.next());
                vec![(when, act(move |world| people::vandalise(world, &place, &mut own)))]
            }
            Plot::Overwritten => vec![(when, act(move |world| people::another_version(world, &place)))],
            _ => Vec::new(),
        }
    }

    /// Whether the story has come to its end; what a person does about it on the way is done here.
    pub fn is_over(&self, world: &mut World) -> bool {
        let Some(live) = world.store.get(ROLLOUTS, &self.place.0, &self.place.1).cloned() else { return self.plot == Plot::Deleted };
        if self.plot == Plot::Deleted {
            // The moment that the deletion waited for may never have come.
            if settled(&live) && live.pointer("/metadata/deletionTimestamp").is_none() {
                people::delete(world, &self.place);
            }
            return false;
        }
        let waits = |kind: &str| crate::oracle::condition(&live, kind).0 == "False";
        let asked = text(&live, "/metadata/annotations/espalier.dev~1request");
        // What was asked before may have been about an attempt that began anew since.
        let answered = asked.is_empty() || asked.contains(&format!("\"{}\"", text(&live, "/status/lastRequest/id")));
        if self.plot == Plot::Approved && waits("Approved") && answered {
            people::ask(world, &self.place, "approve", &format!("approve-{}", text(&live, "/metadata/resourceVersion")));
        }
        if self.plot == Plot::Paused && live.pointer("/status/attempt/paused").is_some() && !asked.contains("resume") {
            people::ask(world, &self.place, "resume", "resume-late");
        }
        if !settled(&live) {
            return false;
        }
        if self.plot == Plot::Retried && crate::oracle::condition(&live, "Ready").1 == "RolledBack" && !asked.contains("retry") {
            // What the old pods did is held against a trial for as long as they are there.
            if self.has_pods(world, "b") {
                return false;
            }
            // Mended before it is tried again.
            world.cluster.models.insert(self.letter("b"), Model::default());
            people::ask(world, &self.place, "retry", "retry");
            return false;
        }
        // Rest from before the answer is not the end.
        !asked.contains("retry") || text(&live, "/status/lastRequest/id") == "retry"
    }

    fn has_pods(&self, world: &World, letter: &str) -> bool {
        let service = service_of(world, NAMESPACE, &self.letter(letter)).unwrap_or_default();
        !ready_pods(world, NAMESPACE, &service).is_empty()
            || world.store.get(DEPLOYMENTS, NAMESPACE, &service).is_some_and(|one| one.pointer("/spec/replicas") != Some(&json!(0)))
    }

    /// What is wrong with the end.
    pub fn end(&self, world: &World) -> Option<String> {
        let live = world.store.get(ROLLOUTS, &self.place.0, &self.place.1);
        if self.plot == Plot::Deleted {
            return self.is_left_well(world, live.is_none());
        }
        let live = live?;
        let expected = match self.plot {
            Plot::Replaced => "c",
            // Whoever takes the Service of what was just promoted away sends its users back to what still answers.
            Plot::Vandalised if text(live, "/status/rejected/0/reason") == "EndpointsGone" => "a",
            Plot::WrongFromTheStart
            | Plot::WrongLater
            | Plot::Flipping
            | Plot::NotFinite
            | Plot::NeverReady
            | Plot::Killed
            | Plot::Aborted
            | Plot::Returned
            | Plot::Reverted => "a",
            _ => "b",
        };
        let others: Vec<(&str, i32)> = ["a", "b", "c"]
            .into_iter()
            .filter(|other| *other != expected)
            .map(|other| (other, share(world, &self.place, &self.letter(other))))
            .filter(|(_, share)| *share > 0)
            .collect();
        let has = share(world, &self.place, &self.letter(expected));
        // What was promoted before it could happen serves, since nobody watches any more.
        let may_survive =
            matches!(self.plot, Plot::WrongLater | Plot::Killed | Plot::NotFinite | Plot::Aborted | Plot::Returned | Plot::Reverted);
        let never_rejected = live.pointer("/status/rejected").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if may_survive && never_rejected && serves(live, &self.letter("b")) {
            return None;
        }
        let by_name = expected == "a" && self.kind != Kind::Owned;
        let right = if by_name { text(live, "/status/stable/service") == self.own("a") } else { serves(live, &self.letter(expected)) };
        (!right || has != 100 || !others.is_empty()).then(|| {
            format!(
                "L4 {} ({:?}, {:?}): {expected} must serve everybody: it has {has} %, others {others:?}, stable is {}, Ready is {:?}",
                self.place.1,
                self.plot,
                self.kind,
                text(live, "/status/stable/uri"),
                ready(live)
            )
        })
    }

    fn is_left_well(&self, world: &World, gone: bool) -> Option<String> {
        if !gone {
            return Some(format!("L6 {} is still there", self.place.1));
        }
        let name = format!("route-{}", self.number);
        let left = world.store.get(crate::store::ROUTES, NAMESPACE, &name);
        let original = people::own_route_spec(&name, &self.own("a"));
        // Defaults are filled in by whoever writes first.
        let wrong = self.kind == Kind::Adopted && !left.is_some_and(|route| route::matches(route, &original));
        wrong.then(|| {
            format!(
                "L6 the adopted route of {} is not as it was: {}",
                self.place.1,
                left.map_or("gone".to_owned(), |r| r["spec"].to_string())
            )
        })
    }

    /// In a line, for the trace.
    pub fn tell(&self) -> String {
        format!("{}: {:?}, {:?}, {} at {} s", self.place.1, self.kind, self.plot, uri(&self.letter("b")), self.offset.num_seconds())
    }
}

/// Something that is done once.
type Act = Box<dyn FnOnce(&mut World) + Send>;

fn act(act: impl FnOnce(&mut World) + Send + 'static) -> Act {
    Box::new(act)
}
