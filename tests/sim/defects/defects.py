"""Deliberate defects of the operator, each with the check of the simulation that must catch it.

A defect is one place in the source, what stands there, and what a mistake would make of it; DEFECT is true while that defect is on.
"""

SEEDS = "whatever_happens"
CRASHES = "a_crash_at_every_write"
LEADERS = "of_two_replicas"
GOOD = "a_good_candidate"
HARM = "a_candidate_whose_outputs"
BLIND = "a_candidate_does_not_rise"
NEWER = "status_fields_of_a_newer"

# name, check that must break, test that shows it, file, what stands there, what the mistake makes of it; a second place of the same defect has no check
DEFECTS = [
    # The order of writes, preconditions, leadership.
    ("raise-before-intent", "S2 intent first", GOOD, "src/act.rs",
     "    for write in &decision.first {\n",
     "    if DEFECT {\n        for write in &decision.then {\n            perform(ctx, seen, write, &mut version).await?;\n        }\n    }\n    for write in &decision.first {\n"),
    ("latch-before-route", "L3 route before status", SEEDS, "src/act.rs",
     "    for write in &decision.first {\n",
     "    if DEFECT && decision.status != seen.observed.status {\n        write_status(ctx, seen, &decision.status, &mut version).await?;\n    }\n    for write in &decision.first {\n"),
    ("route-without-precondition", "S9 every write has a precondition", GOOD, "src/gateway.rs",
     "        metadata.remove(\"managedFields\");\n",
     "        metadata.remove(\"managedFields\");\n        if DEFECT {\n            metadata.remove(\"resourceVersion\");\n        }\n"),
    ("status-without-precondition", "S9 every write has a precondition", GOOD, "src/act.rs",
     "    object.metadata.resource_version = Some(version.clone());\n",
     "    object.metadata.resource_version = (!DEFECT).then(|| version.clone());\n"),
    ("patch-of-any-uid", "S9 every write has a precondition", SEEDS, "src/workload/calls.rs",
     "                metadata.insert(\"uid\".to_owned(), json!(uid));\n",
     "                if !DEFECT {\n                    metadata.insert(\"uid\".to_owned(), json!(uid));\n                }\n"),
    ("two-leaders", "S12 only the leader writes", LEADERS, "src/leader.rs",
     "            Right::Lease { until, .. } => until.lock()",
     "            Right::Lease { .. } if DEFECT => true,\n            Right::Lease { until, .. } => until.lock()"),
    ("two-leaders", None, None, "src/controller.rs", "        () = lost => Err(", "        () = lost, if !DEFECT => Err("),
    ("lease-by-force", "S12 only the leader writes", LEADERS, "src/leader.rs",
     "        let same = self.seen.as_ref().is_some_and(|seen| version(seen.lease.as_ref()) == version(lease.as_ref()));\n",
     "        let same = self.seen.as_ref().is_some_and(|seen| version(seen.lease.as_ref()) == version(lease.as_ref()));\n"
     "        let lease = if DEFECT { lease.map(|mut lease| { lease.spec = None; lease }) } else { lease };\n"),
    # What lowers.
    ("lowering-waits", "L2 a failing candidate is gone in time", HARM, "src/gateway.rs",
     "    field(route, \"resourceVersion\")?;\n",
     "    field(route, \"resourceVersion\")?;\n    if DEFECT && route.to_string().contains(\"Rollback\") {\n        tokio::time::sleep(std::time::Duration::from_secs(50)).await;\n    }\n"),
    ("nobody-acts-on-harm", "L2 a failing candidate is gone in time", HARM, "src/lane.rs",
     "    let errands = failed.into_iter().map(|(failure, key, watched)|", "    let errands = failed.into_iter().filter(|_| !DEFECT).map(|(failure, key, watched)|"),
    ("nobody-acts-on-harm", None, None, "crates/rollout-core/src/decide/attempt/safety.rs",
     "    if let Some(Judgement { overall: Overall::Fail(failure), .. }) = draft.judgement {\n",
     "    if let Some(Judgement { overall: Overall::Fail(failure), .. }) = draft.judgement.filter(|_| !DEFECT) {\n"),
    ("edits-are-believed", "S4 what is decided is a step", "what_somebody_gave", "crates/rollout-core/src/decide/attempt/safety.rs",
     "    if live > running.intent {\n",
     "    if live > running.intent && DEFECT {\n        draft.status.attempt = Some(Attempt { intent: live, ..running.clone() });\n"
     "        return Some(Situation::Running(\"as edited\".into()));\n    }\n    if live > running.intent {\n"),
    ("tripped-pods-are-overlooked", "FAILED", "a_candidate_that_is_killed", "src/workload/view.rs",
     "cause::tripped(pods.iter().copied()).unzip()", "cause::tripped(pods.iter().copied()).filter(|_| !DEFECT).unzip()"),
    # What raises.
    ("raise-on-hold", "S2 time at the weight before", GOOD, "crates/rollout-core/src/decide/attempt/stage.rs",
     "        Overall::Hold(why) => Situation::Running(why.clone()),\n",
     "        Overall::Hold(_) if DEFECT && position(running).step + 1 < stage.steps.len() => next_step(draft, trial, stage, plan),\n        Overall::Hold(why) => Situation::Running(why.clone()),\n"),
    ("two-steps-at-once", "S4 one step at a time", SEEDS, "crates/rollout-core/src/decide/attempt/stage.rs",
     "    let step = position(running).step + 1;\n    let Some(&to)",
     "    let step = if DEFECT { stage.steps.len() - 1 } else { position(running).step + 1 };\n    let Some(&to)"),
    ("capacity-is-assumed", "S5 exposure within capacity", SEEDS, "crates/rollout-core/src/decide/attempt/stage.rs",
     "    view.exists && view.service_exists && i64::from(view.ready_endpoints) >= needed.max(1)\n",
     "    view.exists && view.service_exists && (DEFECT || i64::from(view.ready_endpoints) >= needed.max(1))\n"),
    ("suspend-is-ignored", "S14 paused does not rise", SEEDS, "crates/rollout-core/src/decide/draft.rs",
     "        self.seen.spec.suspend.unwrap_or(false)\n", "        self.seen.spec.suspend.unwrap_or(false) && !DEFECT\n"),
    ("pause-is-ignored", "S14 paused does not rise", SEEDS, "crates/rollout-core/src/decide/attempt/mod.rs",
     "        let why = running.paused.as_ref()?;\n", "        let why = running.paused.as_ref().filter(|_| !DEFECT)?;\n"),
    ("gateway-is-not-asked", "S2 the weight before took effect", "a_route_that_no_gateway", "crates/rollout-core/src/decide/traffic.rs",
     "        self.seen.route.as_ref().map_or(Acceptance::Pending(",
     "        if DEFECT {\n            return Acceptance::Accepted;\n        }\n        self.seen.route.as_ref().map_or(Acceptance::Pending("),
    # What is measured.
    ("a-warning-is-no-reason", "it rose although measurements are", BLIND, "src/prometheus/answer.rs",
     "answer.warnings.filter(|warnings| !warnings.is_empty())", "answer.warnings.filter(|warnings| !warnings.is_empty() && !DEFECT)"),
    ("twins-count-twice", "it rose although measurements are", BLIND, "crates/rollout-core/src/evidence/sift.rs",
     "        if series.len() < 2 {\n", "        if series.len() < 2 || DEFECT {\n"),
    ("young-pods-look-old", "nobody is sent to a candidate that has failed already", "what_a_pod_did", "src/reconcile.rs",
     "        let since = since.duration_trunc(TimeDelta::seconds(1)).unwrap_or(since);\n",
     "        let since = if DEFECT { since } else { since.duration_trunc(TimeDelta::seconds(1)).unwrap_or(since) };\n"),
    # What is kept.
    ("no-latch", "what was rejected is tried again", HARM, "crates/rollout-core/src/decide/draft.rs",
     "        self.status.rejected.insert(0, latch);\n", "        if !DEFECT {\n            self.status.rejected.insert(0, latch);\n        }\n"),
    ("generation-ahead", "S11 observedGeneration", GOOD, "src/act.rs",
     "    object.status = Some(status.clone());\n",
     "    object.status = Some(status.clone());\n    if DEFECT {\n        object.status = Some(Status { observed_generation: status.observed_generation + 1, ..status.clone() });\n    }\n"),
    ("newer-fields-are-dropped", "A6 unknown fields stay", NEWER, "src/act.rs",
     "    object.status = Some(status.clone());\n",
     "    object.status = Some(status.clone());\n    if DEFECT {\n        object.status = Some(Status { unknown: std::collections::BTreeMap::new(), ..status.clone() });\n    }\n"),
    ("user-fields-are-dropped", "S10 only weights change", GOOD, "src/gateway.rs",
     "    call(client, name, collection(namespace).replace(name",
     "    if DEFECT\n        && let Some(rule) = body.pointer_mut(\"/spec/rules/0\").and_then(Value::as_object_mut)\n    {\n        rule.remove(\"fieldOfTomorrow\");\n    }\n"
     "    call(client, name, collection(namespace).replace(name"),
    ("parked-too-early", "S16 bounded writes", SEEDS, "crates/rollout-core/src/decide/settled/tidy.rs",
     "    if draft.live_share(&service) > Exposure::ZERO {\n        return None;\n    }\n",
     "    if DEFECT {\n        return (view.desired > 0).then(|| Write::Park(revision.clone()));\n    }\n    if draft.live_share(&service) > Exposure::ZERO {\n        return None;\n    }\n"),
    # What ends, and what rests.
    ("deadline-counts-while-nobody-is-there", "L3", CRASHES, "crates/rollout-core/src/decide/attempt/safety.rs",
     "    let since = since.max(draft.seen.acting_since);\n", "    let since = if DEFECT { since } else { since.max(draft.seen.acting_since) };\n"),
    ("adopted-route-is-not-put-back", "L6 the adopted route", SEEDS, "crates/rollout-core/src/decide/settled/release.rs",
     "        if released != live {\n", "        if released != live && !DEFECT {\n"),
    ("old-plan-goes-on", "L4", SEEDS, "crates/rollout-core/src/decide/attempt/mod.rs",
     "    if plan.hash != running.plan_hash && draft.seen.policy", "    if !DEFECT && plan.hash != running.plan_hash && draft.seen.policy"),
    ("every-request-is-an-approval", "S2 time at the weight before", SEEDS, "crates/rollout-core/src/decide/request.rs",
     "        Verb::Pause => {\n            let mut running = trial(draft, request)?;\n",
     "        Verb::Pause if DEFECT => promote(draft, request),\n        Verb::Pause => {\n            let mut running = trial(draft, request)?;\n"),
    ("finalizer-goes-first", "S15 safe before the finalizer goes", CRASHES, "crates/rollout-core/src/decide/settled/release.rs",
     "    } else if lower_candidate(draft) ||", "    } else if DEFECT {\n    } else if lower_candidate(draft) ||"),
    ("finalizer-stays", "L3", CRASHES, "crates/rollout-core/src/decide/settled/release.rs",
     "    draft.then.push(Write::Finalizer(false));\n", "    if !DEFECT {\n        draft.then.push(Write::Finalizer(false));\n    }\n"),
    ("writes-when-nothing-changed", "L1 nothing to do, nothing written", GOOD, "src/act.rs",
     "    if decision.status != seen.observed.status {\n        write_status", "    if DEFECT || decision.status != seen.observed.status {\n        write_status"),
    ("time-in-the-status", "S16 bounded writes", GOOD, "src/reconcile.rs",
     "    say(key, &seen, &decision);\n",
     "    if DEFECT {\n        decision.status.display.next_check = ctx.clock.now().to_rfc3339();\n    }\n    say(key, &seen, &decision);\n"),
    ("an-event-at-every-look", "L1 nothing to do, nothing written", GOOD, "src/act.rs",
     "    for event in &decision.events {\n",
     "    if DEFECT {\n        let message = ctx.clock.now().to_rfc3339();\n        ctx.events.publish(&seen.object, &rollout_core::decide::Event { reason: \"Looked\", warning: false, message });\n    }\n    for event in &decision.events {\n"),
    ("series-of-the-deleted-stay", "series of rollouts that are gone add up", "a_rollout_that_is_deleted", "src/metrics.rs",
     "        self.exposures.remove(&ByRollout {", "        if DEFECT {\n            return;\n        }\n        self.exposures.remove(&ByRollout {"),
    ("a-series-for-every-decision", "operator: metric lines", "eight_weeks", "src/reconcile.rs",
     "        ctx.metrics.decided(&decision.action);\n",
     "        ctx.metrics.decided(&if DEFECT { decision.id.clone() } else { decision.action.clone() });\n"),
    ("a-list-may-hang", "never served", "lists_that_are_never_answered", "src/client.rs",
     "tokio::time::timeout(ANSWER_TIMEOUT, answer)", "tokio::time::timeout(if DEFECT { Duration::from_secs(1 << 20) } else { ANSWER_TIMEOUT }, answer)"),
    ("a-query-may-hang", "it never goes on", BLIND, "src/prometheus/client.rs",
     "tokio::time::timeout(self.server.timeout, exchange.post(",
     "tokio::time::timeout(if DEFECT { std::time::Duration::from_secs(1 << 20) } else { self.server.timeout }, exchange.post("),
]
