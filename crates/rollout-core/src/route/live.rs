//! Reads the exposure that a live route really gives, and takes it away by changing numbers alone.
//! Never adds or removes a reference: a loaded reference that leaves costs requests, a weight does not.

use serde_json::{Value, json};

use super::json::{annotate, annotation, is_service, list, mirror_target, rules, set, spec, text, weight};
use super::slice::share_of;
use super::{DECISION_ANNOTATION, DecisionNote, REQUEST_ID_HEADER};
use crate::weights::Exposure;

/// What a live route gives a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
// Independent facts, not the states of one thing.
#[allow(clippy::struct_excessive_bools)]
pub struct LiveExposure {
    /// The largest share over all rules, rounded up; a slice of users counts as that share of them.
    pub share: Exposure,
    /// Whether any rule references it, at any weight.
    pub referenced: bool,
    /// Whether any rule copies requests to it.
    pub mirrored: bool,
    /// Whether a rule sends a slice of users to it.
    pub sticky: bool,
    /// Whether a rule that references it has no weight at all, which answers 500.
    pub all_zero: bool,
}

/// The exposure of the Service `candidate` in the live route, whoever wrote it.
pub fn exposure(live: &Value, candidate: &str) -> LiveExposure {
    let mut found = LiveExposure::default();
    for rule in rules(spec(live)) {
        let refs = list(rule, "backendRefs");
        let mirrors = |filter: &Value| mirror_target(filter).is_some_and(|target| is_service(target, candidate));
        let in_refs = refs.iter().flat_map(|reference| list(reference, "filters"));
        found.mirrored |= list(rule, "filters").iter().chain(in_refs).any(mirrors);
        let ours: i64 = refs.iter().filter(|reference| is_service(reference, candidate)).map(weight).sum();
        if !refs.iter().any(|reference| is_service(reference, candidate)) {
            continue;
        }
        let all: i64 = refs.iter().map(weight).sum();
        let slice = slice_of(rule);
        found.referenced = true;
        found.sticky |= slice.is_some();
        found.all_zero |= all <= 0;
        found.share = found.share.max(part(ours, all, slice.unwrap_or(Exposure::FULL)));
    }
    found
}

/// `ours` of `all`, of a slice, in whole percent rounded up.
fn part(ours: i64, all: i64, slice: Exposure) -> Exposure {
    if all <= 0 || ours <= 0 {
        return Exposure::ZERO;
    }
    let percent = i64::from(slice.percent()).saturating_mul(ours).saturating_add(all - 1) / all;
    i32::try_from(percent.min(100)).ok().and_then(Exposure::new).unwrap_or(Exposure::FULL)
}

/// The slice of users that a rule picks: the largest over its matches, none when a match picks nobody by id.
fn slice_of(rule: &Value) -> Option<Exposure> {
    list(rule, "matches").iter().map(user_slice).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn user_slice(each: &Value) -> Option<Exposure> {
    let by_id =
        |header: &&Value| text(header, "type") == "RegularExpression" && !text(header, "name").eq_ignore_ascii_case(REQUEST_ID_HEADER);
    list(each, "headers").iter().filter(by_id).find_map(|header| share_of(text(header, "value")))
}

/// The whole route with exposure 0: in every rule that references `candidate` its weight is 0 and that of `stable` is 100. Numbers only.
///
/// A rule without `stable` is left as it is, since a rule without any weight answers 500: [`exposure`] of the result then is still above
/// 0, and the route must be rendered anew.
pub fn lower(live: &Value, candidate: &str, stable: &str) -> Value {
    let mut route = live.clone();
    let Ok(rules) = super::json::rules_mut(&mut route) else { return route };
    for rule in rules {
        let Some(refs) = rule.get_mut("backendRefs").and_then(Value::as_array_mut) else { continue };
        let has = |name: &str| refs.iter().any(|reference| is_service(reference, name));
        if candidate == stable || !has(candidate) || !has(stable) {
            continue;
        }
        let mut given = false;
        for reference in refs {
            if is_service(reference, candidate) {
                set(reference, "weight", json!(0));
            } else if is_service(reference, stable) {
                set(reference, "weight", json!(if given { 0 } else { 100 }));
                given = true;
            }
        }
    }
    route
}

/// Services that this change would load before the gateway knows them, or drop while they carry requests: both answer some requests with
/// 503. Empty when the change is safe to write in one step; a route that does not exist yet has nothing to lose.
pub fn unprepared(live: &Value, wanted: &Value) -> Vec<String> {
    let (before, after) = (loads(spec(live)), loads(wanted));
    let weight_in = |loads: &[(String, i64)], name: &str| {
        let own: Vec<i64> = loads.iter().filter(|(each, _)| each == name).map(|(_, weight)| *weight).collect();
        (!own.is_empty()).then(|| own.iter().sum::<i64>())
    };
    let mut names: Vec<String> = before.iter().chain(&after).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| match (weight_in(&before, name), weight_in(&after, name)) {
        (None, Some(weight)) | (Some(weight), None) => weight > 0,
        _ => false,
    });
    names
}

fn loads(spec: &Value) -> Vec<(String, i64)> {
    rules(spec)
        .iter()
        .flat_map(|rule| list(rule, "backendRefs"))
        .map(|reference| (text(reference, "name").to_owned(), weight(reference)))
        .collect()
}

/// The live route with another spec, everything else as it is.
pub fn with_spec(live: &Value, wanted: Value) -> Value {
    let mut route = live.clone();
    set(&mut route, "spec", wanted);
    route
}

/// Writes the decision that this write carries out into the route.
pub fn note(route: &mut Value, note: &DecisionNote) {
    annotate(route, DECISION_ANNOTATION, serde_json::to_string(note).ok());
}

/// The decision that the last write carried out, `None` when there is none or it cannot be read.
pub fn read_note(route: &Value) -> Option<DecisionNote> {
    serde_json::from_str(annotation(route, DECISION_ANNOTATION)?).ok()
}
