//! The risk statement in status: what may go wrong with which probability, and how that is split, so that an auditor can recompute every decision
//! from the status alone. Reads the plan, never the evidence.

use crate::evidence::{Risk, SAMPLE_RATIO_ALPHA, SLICE_SLOTS, gap_pairs};
use crate::plan::{Guardrail, Plan, Test};
use crate::status::{RiskShare, RiskStatus};

/// The statement for the `number`-th try, from 0, under `plan`.
pub fn statement(plan: &Plan, number: i32) -> RiskStatus {
    let attempt = u32::try_from(number).unwrap_or_default();
    let all = plan.guardrails.iter().map(|guardrail| (guardrail, Risk::of(plan, guardrail, attempt)));
    let (inside, outside): (Vec<_>, Vec<_>) = all.partition(|(guardrail, _)| guardrail.test.has_risk());
    let promises = plan.guardrails.iter().filter(|guardrail| guardrail.win.is_some()).count();
    let promotion = inside.first().map_or(plan.false_promotion, |(_, risk)| risk.proof_alpha);
    RiskStatus {
        plan_hash: plan.hash.clone(),
        false_promotion: percent(plan.false_promotion),
        false_rollback: percent(plan.false_rollback),
        attempt: number,
        promotion: percent(promotion),
        win: if promises == 0 { String::new() } else { percent(promotion / promises as f64) },
        guardrails: inside.iter().map(|(guardrail, risk)| share(guardrail, risk)).collect(),
        outside: outside.iter().map(|(guardrail, _)| guardrail.name.clone()).collect(),
        sample_ratio: percent(SAMPLE_RATIO_ALPHA),
    }
}

fn share(guardrail: &Guardrail, risk: &Risk) -> RiskShare {
    let (rollback, split) = if guardrail.slices.is_some() {
        let slice = risk.of_slice().harm_alpha;
        let split = format!("whole {}, each of {SLICE_SLOTS} slices {}", percent(risk.harm_alpha), percent(slice));
        (risk.harm_alpha + slice * SLICE_SLOTS, split)
    } else if let Test::Gap(gap) = &guardrail.test {
        let pairs = gap_pairs(gap.groups.len());
        (risk.harm_alpha, format!("each of {pairs} pairs {}", percent(risk.harm_alpha / pairs)))
    } else {
        (risk.harm_alpha, String::new())
    };
    // Weights are whole numbers from 1 to 100.
    #[allow(clippy::cast_possible_truncation)]
    let weight = guardrail.weight as i32;
    RiskShare { guardrail: guardrail.name.clone(), weight, rollback: percent(rollback), split }
}

/// A probability such as `1.25%`, exact to a ten-thousandth of a percent.
fn percent(probability: f64) -> String {
    let text = format!("{:.4}", probability * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validate::validate;

    fn plan(guardrails: &Value) -> Plan {
        let spec = json!({
            "model": {"uri": "oci://registry.example/digits@sha256:41ab"},
            "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment"}, "port": 8080},
            "route": {"template": {}},
            "policyRef": {"name": "digits"},
        });
        let policy = json!({"prometheus": {"address": "http://prometheus:9090"}, "guardrails": guardrails});
        validate(&serde_json::from_value(spec).unwrap(), &serde_json::from_value(policy).unwrap()).unwrap()
    }

    #[test]
    fn the_rollback_risk_is_split_by_weight_and_nothing_of_it_is_lost() {
        let bad = json!({"bad": "b", "total": "t"});
        let plan = plan(&json!([
            {"name": "accuracy", "proportion": bad, "target": "+2pp vs stable", "weight": 2, "expect": "0.8x vs stable"},
            {"name": "regions", "proportion": bad, "target": "+2pp vs stable", "slices": {"label": "region"}, "expect": "0.8x vs stable"},
            {"name": "fair", "fairness": {"events": "e", "total": "t", "label": "group", "groups": ["a", "b"]}, "target": "1pp"},
            {"name": "memory", "limit": {"query": "m"}, "target": "0.5x vs stable"},
            {"name": "nan", "tripwire": {"query": "n_total"}},
        ]));
        let risk = statement(&plan, 1);
        assert_eq!((risk.false_promotion.as_str(), risk.promotion.as_str(), risk.attempt), ("5%", "2.5%", 1), "a retry halves it");
        assert_eq!((risk.win.as_str(), risk.sample_ratio.as_str(), &risk.plan_hash), ("1.25%", "0.1%", &plan.hash), "two wins share it");
        let shares: Vec<_> =
            risk.guardrails.iter().map(|g| (g.guardrail.as_str(), g.weight, g.rollback.as_str(), g.split.as_str())).collect();
        let expected = [
            ("accuracy", 2, "2.5%", ""),
            ("regions", 1, "1.25%", "whole 0.625%, each of 17 slices 0.0368%"),
            ("fair", 1, "1.25%", "each of 2 pairs 0.625%"),
        ];
        assert_eq!(shares, expected);
        assert_eq!(risk.outside, ["memory", "nan"]);
    }

    #[test]
    fn the_thresholds_of_the_evidence_follow_from_the_statement() {
        let plan = plan(&json!([
            {"name": "a", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs stable", "weight": 3},
            {"name": "b", "gauge": {"query": "g"}, "target": "30"},
        ]));
        let risk = statement(&plan, 0);
        for (guardrail, stated) in plan.guardrails.iter().zip(&risk.guardrails) {
            let judged = Risk::of(&plan, guardrail, 0);
            let read = |text: &str| text.trim_end_matches('%').parse::<f64>().unwrap() / 100.0;
            assert!((judged.harm_threshold + read(&stated.rollback).ln()).abs() < 1e-6);
            assert!((judged.proof_threshold + read(&risk.promotion).ln()).abs() < 1e-6);
        }
    }
}
