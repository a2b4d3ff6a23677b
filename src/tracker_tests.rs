//! When which rollout is looked at, and what a look between instants leads to.

use rollout_core::evidence::{Arm, Reading, Sample, Series};
use rollout_core::quantity::DurationText;
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::validate::validate;
use serde_json::json;

use super::*;

const CANDIDATE: &str = "bbbbbbbb";

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
}

fn plan(interval: &str) -> Plan {
    let policy: PolicySpec = serde_json::from_value(json!({
        "prometheus": {"address": "http://p:9090"}, "interval": DurationText::new(interval),
        "guardrails": [
            {"name": "errors", "proportion": {"bad": "errors_total", "total": "requests_total"}, "target": "1%"},
            {"name": "nan", "tripwire": {"query": "nonfinite_total"}},
        ],
    }))
    .unwrap();
    let rollout: RolloutSpec = serde_json::from_value(json!({
        "model": {"uri": "oci://r/m:1"}, "workload": {"backendRef": {"name": "m", "port": 80}}, "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}]}},
        "stages": [{"name": "canary", "type": "Canary", "percent": "10%"}],
    }))
    .unwrap();
    validate(&rollout, &policy).unwrap()
}

/// A rollout of which the candidate has this share of the users.
pub(crate) fn watched(interval: &str, exposure: i32) -> Watched {
    let plan = plan(interval);
    let arm = |revision: &str| Arm { namespace: "ns".into(), revision: Some(RevisionId::new(revision)), ..Arm::default() };
    let serving = |revision: &str| Serving {
        revision: RevisionId::new(revision),
        digest: String::new(),
        uri: String::new(),
        service: revision.into(),
        port: 80,
        since: time(0),
    };
    Watched {
        identity: Identity { uid: "u".into(), revision: RevisionId::new(CANDIDATE), started: time(0), plan_hash: plan.hash.clone() },
        attempt: 0,
        plan: Arc::new(plan),
        arms: Arms { rollout: "digits".into(), candidate: arm(CANDIDATE), stable: arm("aaaaaaaa"), baseline: None },
        server: Server::plain("http://p:9090").unwrap(),
        position: Position { stage: 0, step: 0 },
        kind: StageKind::Canary,
        exposure: Exposure::new(exposure).unwrap(),
        stage_started: time(0),
        step_started: time(0),
        last_step: true,
        candidate: serving(CANDIDATE),
        stable: serving("aaaaaaaa"),
        sequence: "1".into(),
        checkpoint: None,
    }
}

fn key(name: &str) -> Key {
    Key { namespace: "ns".into(), name: name.into() }
}

/// Answers to everything, with this value of the tripwire on the candidate, scraped at `at`.
fn answers(of: &Questions, at: DateTime<Utc>, nan: f64) -> Arc<Readings> {
    let labels = |revision: &str| BTreeMap::from([("pod".into(), "p".into()), ("espalier_dev_revision".into(), revision.to_owned())]);
    let answer = |query: &Query| {
        let value = if query.as_str().starts_with("nonfinite") { nan } else { 1.0 };
        Reading::Series(vec![Arc::new(Series {
            labels: labels(CANDIDATE).into(),
            samples: vec![Sample { at: at.timestamp_millis(), value }],
        })])
    };
    Arc::new(of.values().flat_map(|(asked, _)| asked.values().flatten()).map(|query| (query.clone(), answer(query))).collect())
}

/// One instant for every rollout on the server, scraped a moment before.
fn absorb(tracker: &Tracker, at: DateTime<Utc>, nan: f64) -> Vec<Outcome> {
    let readings = answers(&tracker.questions(at), at - TimeDelta::milliseconds(10), nan);
    tracker.absorb(&watched("1s", 10).server, at, at, |_| Arc::clone(&readings))
}

/// One glance at all that are glanced at now.
fn glance(tracker: &Tracker, at: DateTime<Utc>, nan: f64) -> Vec<Outcome> {
    let readings = answers(&tracker.glances(at), at - TimeDelta::milliseconds(10), nan);
    tracker.glance(&watched("1s", 10).server, at, |_| Arc::clone(&readings))
}

#[test]
fn instants_are_multiples_of_the_interval_since_the_epoch() {
    let at = DateTime::from_timestamp_millis(15_000).unwrap();
    assert_eq!(aligned_after(at, TimeDelta::seconds(15)).timestamp_millis(), 30_000);
    assert_eq!(aligned_after(at + TimeDelta::milliseconds(1), TimeDelta::seconds(15)).timestamp_millis(), 30_000);
    assert_eq!(aligned_after(at - TimeDelta::milliseconds(1), TimeDelta::seconds(15)).timestamp_millis(), 15_000);
}

#[test]
fn instants_of_an_interval_that_does_not_divide_another_are_not_missed() {
    let tracker = Tracker::default();
    tracker.watch(&key("two"), watched("2s", 10));
    tracker.watch(&key("three"), watched("3s", 10));
    let mut instants = vec![time(0)];
    while instants.len() < 5 {
        instants.push(tracker.next_instant(*instants.last().unwrap()).unwrap());
    }
    assert_eq!(instants, [0, 2_000, 3_000, 4_000, 6_000].map(time));
}

#[test]
fn an_exposed_candidate_is_glanced_at_between_instants_with_the_fewest_questions() {
    let tracker = Tracker::default();
    tracker.watch(&key("exposed"), watched("1s", 10));
    tracker.watch(&key("dark"), watched("1s", 0));
    assert_eq!(tracker.next_glance(time(1)), Some(time(250)));
    let asked = tracker.glances(time(250));
    let texts: Vec<&str> = asked.values().flat_map(|(asked, _)| asked.values().flatten()).map(Query::as_str).collect();
    assert_eq!(texts, [r#"nonfinite_total{espalier_dev_revision!=""}"#]);
    assert!(tracker.glances(time(1_000)).is_empty(), "at an instant everything is read anyway");
    tracker.forget(&key("exposed"));
    assert!(tracker.glances(time(250)).is_empty(), "nobody is on the other one");
}

#[test]
fn the_champions_past_is_read_once_per_attempt_and_together_for_rollouts_of_one_plan() {
    let tracker = Tracker::default();
    let watched = watched("1s", 10);
    for name in ["a", "b"] {
        tracker.watch(&key(name), watched.clone());
    }
    tracker.watch(&key("other"), self::watched("2s", 10));
    let names = |lot: &[Recall]| lot.iter().map(|one| one.key.name.clone()).collect::<Vec<_>>();
    let lot = tracker.to_recall();
    assert_eq!(names(&lot), ["a", "b"]);
    assert!(tracker.to_recall().is_empty(), "theirs is still being read");
    let history = History::start(&watched.plan, time(-1));
    tracker.recalled(lot.iter().map(|one| (one, &history)));
    let lot = tracker.to_recall();
    assert_eq!(names(&lot), ["other"]);
    tracker.recalled(lot.iter().map(|one| (one, &history)));
    tracker.watch(&key("a"), watched.clone());
    assert!(tracker.to_recall().is_empty(), "the same attempts go on");

    let state = serde_json::to_string(&Evidence::start(&watched.plan, RevisionId::new(CANDIDATE), time(0), 0).checkpoint()).unwrap();
    let tracker = Tracker::default();
    tracker.watch(&key("a"), Watched { checkpoint: Some(CheckpointStatus { at: time(0), state }), ..watched });
    assert!(tracker.to_recall().is_empty(), "a checkpoint has it already");
}

#[test]
fn a_crossing_between_instants_sends_one_rollback_and_whoever_decides_next_knows() {
    let tracker = Tracker::default();
    let watched = watched("1s", 10);
    tracker.watch(&key("digits"), watched.clone());
    for second in [1_000, 2_000] {
        let outcomes = absorb(&tracker, time(second), 0.0);
        assert!(outcomes.iter().all(|outcome| outcome.failure.is_none()), "{outcomes:?}");
    }
    assert!(glance(&tracker, time(2_250), 0.0).is_empty());
    let bad = answers(&tracker.glances(time(2_500)), time(2_490), 1.0);
    let outcomes = tracker.glance(&watched.server, time(2_500), |_| Arc::clone(&bad));
    assert_eq!(outcomes.iter().map(|o| o.failure.as_ref().unwrap().reason.as_str()).collect::<Vec<_>>(), ["TripwireCrossed"]);
    assert!(tracker.is_escaping(&key("digits")), "no raise may go out any more");
    let (judgement, _) = tracker.judgement(&key("digits"), &watched.identity).unwrap();
    assert!(matches!(judgement.overall, Overall::Fail(_)));
    assert!(tracker.glances(time(2_750)).is_empty(), "the rollback is on its way");
    assert!(tracker.glance(&watched.server, time(2_750), |_| Arc::clone(&bad)).is_empty());
}

#[test]
fn a_crossing_is_seen_while_minutes_of_history_are_being_read() {
    let tracker = Tracker::default();
    tracker.watch(&key("digits"), watched("1s", 10));
    for second in [1_000, 2_000] {
        absorb(&tracker, time(second), 0.0);
    }
    assert_eq!(tracker.behind(time(60_000)).len(), 1);
    assert!(tracker.questions(time(60_000)).is_empty(), "it is not judged over the gap");
    for (at, value, crossings) in [(time(60_000), 0.0, 0), (time(60_250), 1.0, 1)] {
        assert_eq!(glance(&tracker, at, value).len(), crossings, "{at}");
    }
    assert!(tracker.is_escaping(&key("digits")));
}

#[test]
fn a_crossing_is_seen_after_a_restart_before_the_first_of_minutes_of_history_is_read() {
    for young in [BTreeSet::new(), BTreeSet::from(["p".to_owned()])] {
        let tracker = Tracker::default();
        let mut restarted = watched("1s", 10);
        restarted.identity.started = time(-600_000);
        restarted.arms.candidate.young = young;
        tracker.watch(&key("digits"), restarted);
        assert_eq!(tracker.behind(time(0)).len(), 1);
        for (at, value, crossings) in [(time(0), 0.0, 0), (time(250), 0.0, 0), (time(500), 1.0, 1)] {
            assert_eq!(glance(&tracker, at, value).len(), crossings, "{at}");
        }
        assert!(tracker.is_escaping(&key("digits")));
    }
}

#[test]
fn what_was_counted_before_a_restart_is_not_what_glances_see_while_history_is_read() {
    let tracker = Tracker::default();
    let mut restarted = watched("1s", 10);
    restarted.identity.started = time(-600_000);
    tracker.watch(&key("digits"), restarted);
    assert_eq!(tracker.behind(time(0)).len(), 1);
    for at in [0, 250, 500] {
        assert_eq!(glance(&tracker, time(at), 7.0).len(), 0, "a pod from before the attempt had counted seven by then");
    }
}

#[test]
fn rollouts_with_a_gap_are_read_together_and_those_with_days_apart() {
    let tracker = Tracker::default();
    for (name, started) in [("new", 0), ("minute", -60_000), ("minutes", -120_000), ("day", -86_400_000)] {
        let mut one = watched("1s", 10);
        one.identity.started = time(started);
        tracker.watch(&key(name), one);
    }
    let names = |lots: &[Lot]| -> Vec<Vec<String>> {
        lots.iter().map(|lot| lot.members.iter().map(|one| one.key.name.clone()).collect()).collect()
    };
    let lots = tracker.behind(time(1_000));
    assert_eq!(names(&lots), [vec!["minute".to_owned(), "minutes".to_owned()], vec!["day".to_owned()]]);
    let mut late = watched("1s", 10);
    late.identity.started = time(-60_000);
    tracker.watch(&key("late"), late);
    assert!(tracker.behind(time(2_000)).is_empty(), "what comes meanwhile waits and is read together next");
    let judged = absorb(&tracker, time(2_000), 0.0);
    let judged: Vec<&str> = judged.iter().map(|outcome| outcome.key.name.as_str()).collect();
    assert_eq!(judged, ["new"], "nothing is judged over the gap that is about to be read");
    tracker.caught_up(&lots[0], time(2_000));
    assert_eq!(names(&tracker.behind(time(2_000)))[0], ["late", "minute", "minutes"], "the far one is still being read");
}

#[test]
fn history_in_pieces_is_folded_as_if_it_had_been_live() {
    let (whole, pieces) = (Tracker::default(), Tracker::default());
    let one = Watched { step_started: time(-60_000), ..watched("1s", 10) };
    let one = Watched { identity: Identity { started: time(-60_000), ..one.identity }, ..one };
    let queries: Questions = {
        whole.watch(&key("digits"), one.clone());
        whole.questions(time(0))
    };
    let readings = |at: i64| answers(&queries, time(at), 0.0);
    pieces.watch(&key("digits"), one.clone());
    let mut lot = pieces.behind(time(0));
    for second in -59..=0 {
        let at = second * 1_000;
        whole.absorb(&one.server, time(at), time(at), |_| readings(at - 10));
        pieces.replayed(&mut lot[0].members[0], time(at), &readings(at - 10));
    }
    pieces.caught_up(&lot[0], time(0));
    let evidence = |tracker: &Tracker| tracker.lock()[&key("digits")].evidence.clone();
    assert_eq!(evidence(&pieces), evidence(&whole));
}

#[test]
fn what_was_missed_is_judged_as_soon_as_it_is_read_and_when_some_is_still_missing_only_harm_counts() {
    let judged = |nan: f64, now: i64| {
        let tracker = Tracker::default();
        let mut one = watched("1s", 10);
        one.identity.started = time(-60_000);
        tracker.watch(&key("digits"), one.clone());
        let mut lot = tracker.behind(time(0)).remove(0);
        let (asked, _) = &ask(&tracker.lock(), |_| true, Evidence::queries)[&one.server];
        let queries = Questions::from([(one.server.clone(), (asked.clone(), TimeDelta::zero()))]);
        for second in -59..=0 {
            let seen = if second < -30 { 0.0 } else { nan };
            tracker.replayed(&mut lot.members[0], time(second * 1_000), &answers(&queries, time(second * 1_000 - 10), seen));
        }
        let outcomes = tracker.caught_up(&lot, time(now));
        let gone = outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()).map(|failure| failure.reason.clone()).next();
        (gone, tracker.judgement(&key("digits"), &one.identity).is_some())
    };
    assert_eq!(judged(0.0, 30), (None, true), "it need not wait for the next instant");
    assert_eq!(judged(1.0, 30), (Some("TripwireCrossed".to_owned()), true));
    assert_eq!(judged(0.0, 60_000), (None, false), "nothing is said about a minute that nobody has read yet");
    assert_eq!(judged(1.0, 60_000), (Some("TripwireCrossed".to_owned()), true));
}

#[test]
fn rollouts_of_one_shape_have_one_plan_in_common() {
    let tracker = Tracker::default();
    for name in ["a", "b"] {
        tracker.watch(&key(name), watched("1s", 10));
    }
    tracker.watch(&key("other"), watched("2s", 10));
    let rollouts = tracker.lock();
    let plan = |name: &str| Arc::clone(&rollouts[&key(name)].watched.plan);
    assert!(Arc::ptr_eq(&plan("a"), &plan("b")));
    assert!(!Arc::ptr_eq(&plan("a"), &plan("other")));
}

#[test]
fn judging_that_panics_lowers_its_own_candidate_and_touches_no_other() {
    let tracker = Tracker::default();
    let (broken, sound) = (key("broken"), key("sound"));
    tracker.watch(&broken, Watched { arms: Arms { rollout: "broken".into(), ..watched("1s", 10).arms }, ..watched("1s", 10) });
    tracker.watch(&sound, watched("1s", 10));
    let server = watched("1s", 10).server;
    let absorb = |at: DateTime<Utc>, panics: bool| {
        let readings = answers(&tracker.questions(at), at, 0.0);
        tracker.absorb(&server, at, at, |watched| {
            assert!(!(panics && watched.arms.rollout == "broken"), "a bin that is not there");
            Arc::clone(&readings)
        })
    };
    let overall = |key: &Key| tracker.judgement(key, &watched("1s", 10).identity).unwrap().0.overall;
    absorb(time(1_000), false);
    let outcomes = absorb(time(2_000), true);
    let of = |key: &Key| outcomes.iter().find(|outcome| outcome.key == *key).unwrap();
    assert!(of(&broken).panicked && of(&broken).wake && !of(&sound).panicked);
    let Overall::Lower(failure) = overall(&broken) else { panic!("{:?}", overall(&broken)) };
    assert_eq!((failure.reason.as_str(), failure.guardrail.as_str()), ("InternalError", "operator"));
    assert!(failure.message.contains("a bin that is not there"), "{}", failure.message);
    assert!(matches!(overall(&sound), Overall::Hold(_)));
    assert!(absorb(time(3_000), false).iter().all(|outcome| !outcome.panicked));
    assert!(matches!(overall(&broken), Overall::Hold(_)), "what works again is judged again: {:?}", overall(&broken));
}

#[test]
fn users_leave_a_candidate_whose_looks_panic_time_and_again() {
    let tracker = Tracker::default();
    tracker.watch(&key("exposed"), watched("1s", 10));
    tracker.watch(&key("dark"), watched("1s", 0));
    let panics = |name: &str, times: usize| (0..times).filter_map(|_| tracker.look_panicked(&key(name))).count();
    assert_eq!(panics("exposed", 2), 0);
    tracker.watch(&key("exposed"), watched("1s", 10));
    assert_eq!(panics("exposed", 2), 0, "a look that ended well begins the count anew");
    assert_eq!(panics("exposed", 5), 1, "they are sent away once");
    assert_eq!((panics("dark", 5), panics("unknown", 5)), (0, 0));
}

#[test]
fn a_candidate_is_judged_again_at_once_when_the_clock_is_put_back() {
    let tracker = Tracker::default();
    tracker.watch(&key("a"), watched("1s", 10));
    let fails = |at: i64, nan: f64| absorb(&tracker, time(at), nan).iter().any(|outcome| outcome.failure.is_some());
    assert!(!fails(900_000, 0.0) && !fails(901_000, 0.0));
    let harm = (2..8).any(|second| fails(second * 1_000, f64::from(u8::from(second > 4))));
    assert!(harm, "harm is found before the clock shows again what it has shown");
}

#[test]
fn time_that_only_the_clock_made_is_not_time_at_a_step() {
    let tracker = Tracker::default();
    tracker.watch(&key("a"), watched("15s", 10));
    let judged = || tracker.judgement(&key("a"), &watched("15s", 10).identity).map(|(judgement, _)| judgement.step_judged);
    absorb(&tracker, time(15_000), 0.0);
    absorb(&tracker, time(30_000), 0.0);
    tracker.clock_was_set(time(125_000));
    assert_eq!(judged(), None, "nothing is decided on what was judged by the old clock");
    absorb(&tracker, time(135_000), 0.0);
    assert!(judged().unwrap() <= TimeDelta::seconds(10), "{:?}", judged());
    absorb(&tracker, time(150_000), 0.0);
    assert!(judged().unwrap() <= TimeDelta::seconds(25), "{:?}", judged());
}

#[test]
fn a_weight_that_took_effect_while_nobody_watched_is_no_wrong_split() {
    let at_five = Watched { exposure: Exposure::new(5).unwrap(), ..watched("1s", 5) };
    let mut evidence = Evidence::start(&at_five.plan, RevisionId::new(CANDIDATE), time(0), 0);
    evidence.moved(Position { stage: 0, step: 0 }, at_five.exposure, StageKind::Canary, time(0));
    let state = serde_json::to_string(&evidence.checkpoint()).unwrap();
    // The raise went out right after the checkpoint, but the process died before it wrote that the step counts.
    let raised = Watched {
        position: Position { stage: 0, step: 1 },
        step_started: time(200_000),
        checkpoint: Some(CheckpointStatus { at: time(0), state }),
        ..watched("1s", 25)
    };
    let tracker = Tracker::default();
    tracker.watch(&key("a"), raised.clone());
    let mut lot = tracker.behind(time(300_000)).remove(0);
    let counted = |arm: &str, per_second: f64| {
        let labels: BTreeMap<String, String> = [("pod", arm), ("espalier_dev_revision", arm), ("namespace", "ns")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let samples =
            (-10..300).map(|second| Sample { at: time(second * 1_000).timestamp_millis(), value: 1e6 + per_second * second as f64 });
        Arc::new(Series { labels: labels.into(), samples: samples.collect() })
    };
    let queries = Evidence::queries(&raised.plan, &raised.arms);
    let reading = |query: &Query| {
        let all = vec![counted(CANDIDATE, 25.0), counted("aaaaaaaa", 75.0)];
        Reading::Series(if query.as_str().starts_with("requests_total") { all } else { Vec::new() })
    };
    let readings: Readings = queries.into_iter().map(|query| (query.clone(), reading(&query))).collect();
    tracker.replayed(&mut lot.members[0], time(290_000), &readings);
    tracker.caught_up(&lot, time(290_000));
    tracker.absorb(&raised.server, time(291_000), time(291_000), |_| Arc::new(readings.clone()));
    let judgement = tracker.judgement(&key("a"), &raised.identity).unwrap().0;
    assert!(judgement.realised_share.is_some_and(|share| (share - 25.0).abs() < 1.0), "{:?}", judgement.realised_share);
    assert!(judgement.findings.iter().all(|finding| !finding.message.contains("not split as written")), "{:?}", judgement.findings);
}
