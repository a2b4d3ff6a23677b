//! Whose first look after a start comes first: rollouts with users on a model that is being judged. Thousands of idle ones stand behind them.
//! Decides nothing about any of them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::card::Card;
use crate::tracker::Key;

/// Rollouts of the first list with users at stake that have not been looked at yet.
#[derive(Debug, Default)]
pub struct FirstLooks(Mutex<BTreeSet<Key>>);

impl FirstLooks {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This rollout is of the first list.
    pub fn listed(&self, card: &Card) {
        if card.at_stake {
            self.lock().insert(card.key());
        }
    }

    /// Whether it is this rollout's turn.
    pub fn is_turn_of(&self, card: &Card) -> bool {
        card.at_stake || self.lock().is_empty()
    }

    /// A look at this rollout has ended, well or not, or it is gone.
    pub fn had(&self, key: &Key) {
        self.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn card(name: &str, status: &Value) -> Card {
        let model = json!({"uri": "oci://r/m:1"});
        let spec = json!({
            "model": model, "workload": {"backendRef": {"name": "m", "port": 80}}, "policyRef": {"name": "p"},
            "route": {"template": {"parentRefs": [{"name": "gw"}]}}, "stages": [],
        });
        let object = json!({
            "apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"namespace": "ns", "name": name},
            "spec": spec, "status": status,
        });
        let card: Card = serde_json::from_value(object).unwrap();
        assert!(card.uses.is_ok(), "{:?}", card.uses);
        card
    }

    fn on_trial() -> Value {
        let serving = |revision: &str| json!({"revision": revision, "digest": "", "uri": "", "service": revision, "port": 80, "since": "2026-01-01T00:00:00Z"});
        let attempt = json!({
            "number": 0, "started": "2026-01-01T00:00:00Z", "planHash": "h", "policyGeneration": 1, "pinned": "{}", "phase": "Judging", "stage": 0, "step": 0,
            "stageStarted": "2026-01-01T00:00:00Z", "intent": 10,
        });
        json!({"stable": serving("aaaaaaaa"), "candidate": serving("bbbbbbbb"), "attempt": attempt})
    }

    #[test]
    fn idle_rollouts_wait_until_all_with_users_at_stake_have_been_looked_at() {
        let idle = card("idle", &json!({}));
        let looks = FirstLooks::default();
        assert!(looks.is_turn_of(&idle), "nobody is at stake");
        let at_stake: Vec<Card> = ["a", "b"].iter().map(|name| card(name, &on_trial())).collect();
        for listed in at_stake.iter().chain([&idle]) {
            looks.listed(listed);
        }
        for ended in &at_stake {
            assert!(!looks.is_turn_of(&idle));
            assert!(at_stake.iter().all(|card| looks.is_turn_of(card)));
            looks.had(&ended.key());
        }
        assert!(looks.is_turn_of(&idle));
    }
}
