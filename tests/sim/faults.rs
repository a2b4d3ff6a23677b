//! What may go wrong between a process and the API server, by verb and resource, for a time: refused, hung, landed without a reply, late, deaf.
//! Says what happens to a call; carries nothing out.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::Method;

use crate::dice::Dice;
use crate::serve::Call;
use crate::store::Refusal;
use crate::world::World;

/// What a fault does to a call.
#[derive(Clone, Debug)]
pub enum Effect {
    None,
    /// Not carried out; this is the answer.
    Refuse(Refusal),
    /// Carried out; no answer, or this one.
    LoseReply(Option<Refusal>),
    /// Carried out, and the connection breaks.
    Broken,
    /// Not carried out, and never answered.
    Hang,
}

impl Effect {
    /// In a word, for counting.
    fn name(&self) -> Option<String> {
        Some(match self {
            Self::None => return None,
            Self::Refuse(refusal) => format!("{} {}", refusal.code, refusal.reason),
            Self::LoseReply(None) => "reply lost".to_owned(),
            Self::LoseReply(Some(_)) => "reply lost in a 504".to_owned(),
            Self::Broken => "connection lost".to_owned(),
            Self::Hang => "no answer".to_owned(),
        })
    }
}

/// What happens to one call.
pub struct Fate {
    pub before: TimeDelta,
    pub after: TimeDelta,
    pub effect: Effect,
}

/// Calls that a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    Everything,
    Writes,
    Reads,
    /// Everything about this resource.
    Of(&'static str),
    /// Writes of this resource.
    WritesOf(&'static str),
}

/// A fault for a time.
#[derive(Clone, Debug)]
pub struct Fault {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub struck: Struck,
    pub percent: u64,
    pub effect: Effect,
}

/// Everything that may go wrong in a run.
pub struct Faults {
    /// For how much longer a route is being written than anything else.
    pub routes_take: TimeDelta,
    pub list: Vec<Fault>,
    /// The longest that a watch is behind.
    pub lag: TimeDelta,
    /// Until when new watches may fall silent, or answer 410.
    pub bad_watches_until: Option<DateTime<Utc>>,
    /// Calls that were struck, by what happened to them.
    pub strikes: BTreeMap<String, usize>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            lag: TimeDelta::milliseconds(20),
            routes_take: TimeDelta::zero(),
            bad_watches_until: None,
            strikes: BTreeMap::new(),
        }
    }
}

impl Faults {
    /// When the last fault ends.
    pub fn end(&self) -> Option<DateTime<Utc>> {
        self.list.iter().map(|fault| fault.until).chain(self.bad_watches_until).max()
    }

    pub fn watches_die(&mut self, now: DateTime<Utc>, dice: &mut Dice) -> bool {
        let dies = self.bad_watches_until.is_some_and(|until| now < until) && dice.chance(20);
        if dies {
            *self.strikes.entry("silent watch".to_owned()).or_default() += 1;
        }
        dies
    }

    pub fn expires(&mut self, now: DateTime<Utc>, dice: &mut Dice) -> bool {
        let expires = self.bad_watches_until.is_some_and(|until| now < until) && dice.chance(20);
        if expires {
            *self.strikes.entry("410 Expired".to_owned()).or_default() += 1;
        }
        expires
    }
}

/// Draws what happens to this call: by what it is and when it is sent, never by what was drawn before, since calls of one instant come in any order.
pub fn fate(world: &mut World, call: &Call) -> Fate {
    let mut dice = world.dice_for(call.mark);
    let mut latency = |least, most| TimeDelta::milliseconds(dice.between(least, most));
    let (mut before, after) = (latency(1, 4), latency(1, 3));
    let now = world.now;
    let plural = call.of.map_or("", |of| of.plural);
    if plural == "httproutes" && call.method == Method::PUT {
        before += world.faults.routes_take;
    }
    let strikes = |fault: &Fault| {
        let concerned = match fault.struck {
            Struck::Everything => true,
            Struck::Writes => call.method != Method::GET,
            Struck::Reads => call.method == Method::GET,
            Struck::Of(what) => plural == what,
            Struck::WritesOf(what) => plural == what && call.method != Method::GET,
        };
        concerned && fault.from <= now && now < fault.until
    };
    let active: Vec<(u64, Effect)> =
        world.faults.list.iter().filter(|fault| strikes(fault)).map(|f| (f.percent, f.effect.clone())).collect();
    let struck = active.into_iter().find(|(percent, _)| dice.chance(*percent)).map(|(_, effect)| effect);
    // An answer that is lost has done no harm to who only reads.
    let effect = match struck {
        Some(Effect::LoseReply(_)) if !call.is_write() => Effect::Hang,
        // Who is told that there is no such object believes it; the namespace of what is created may be gone.
        Some(Effect::Refuse(refusal)) if refusal.code == 404 && call.method != Method::POST => Effect::None,
        Some(effect) => effect,
        None => Effect::None,
    };
    if let Some(name) = effect.name() {
        *world.faults.strikes.entry(name).or_default() += 1;
    }
    Fate { before, after, effect }
}

/// One of the ways in which calls fail.
pub fn some_effect(dice: &mut Dice) -> Effect {
    let refuse = |code, reason| Effect::Refuse(Refusal::new(code, reason, "simulated"));
    match dice.roll(13) {
        0 => refuse(429, "TooManyRequests"),
        1 => refuse(503, "ServiceUnavailable"),
        2 => refuse(500, "InternalError"),
        3 => refuse(504, "Timeout"),
        4 => refuse(403, "Forbidden"),
        5 => refuse(409, "Conflict"),
        6 => refuse(422, "Invalid"),
        7 => Effect::Hang,
        8 => Effect::Broken,
        9 => Effect::LoseReply(None),
        10 => refuse(404, "NotFound"),
        11 => Effect::LoseReply(Some(Refusal::new(504, "Timeout", "simulated"))),
        _ => refuse(401, "Unauthorized"),
    }
}
