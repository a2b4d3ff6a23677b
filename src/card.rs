//! What is kept of a rollout between two looks: what names it, and what tells which changes concern it.
//! Everything else is read live by the look itself, so that ten thousand idle rollouts cost little.

use std::borrow::Cow;

use kube::api::ObjectMeta;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Resource, ResourceExt};
use rollout_core::weights::Exposure;
use serde::{Deserialize, Deserializer};

use crate::api::ModelRollout;
use crate::tracker::Key;

/// A rollout as its watch keeps it.
#[derive(Clone, Debug)]
pub struct Card {
    /// Name, namespace, uid and version.
    metadata: ObjectMeta,
    /// What the rollout uses, or why it cannot be read.
    pub uses: Result<Uses, Box<str>>,
    /// Whether users are on a model that is being judged: a candidate, or a champion in its probation.
    pub at_stake: bool,
}

/// What a rollout uses: a change of it concerns the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uses {
    /// Its policy.
    pub policy: Box<str>,
    /// The route that it adopts; none is a route of its own name.
    pub adopted: Option<Box<str>>,
    /// Services that it serves, tries, keeps or compares with, or is about to.
    pub services: Box<[Box<str>]>,
}

impl Card {
    /// Names the rollout.
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace().unwrap_or_default(), name: self.name_any() }
    }

    fn of(rollout: &DeserializeGuard<ModelRollout>) -> Self {
        let meta = rollout.meta();
        let metadata = ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectMeta::default()
        };
        let status = rollout.0.as_ref().ok().and_then(|rollout| rollout.status.as_ref());
        Self {
            metadata,
            uses: rollout.0.as_ref().map(Uses::of).map_err(|invalid| invalid.error.as_str().into()),
            at_stake: status.is_some_and(|status| {
                status.attempt.as_ref().is_some_and(|attempt| attempt.intent > Exposure::ZERO) || status.probation.is_some()
            }),
        }
    }
}

/// From the whole object, which is gone again at once; one that cannot be read makes a card that says so.
impl<'de> Deserialize<'de> for Card {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DeserializeGuard::<ModelRollout>::deserialize(deserializer).map(|rollout| Self::of(&rollout))
    }
}

impl Uses {
    fn of(rollout: &ModelRollout) -> Self {
        let spec = &rollout.spec;
        let meant = [spec.baseline.as_ref().map(|b| &b.backend_ref), spec.workload.backend_ref.as_ref()];
        let status = rollout.status.as_ref();
        let arms = [status.and_then(|s| s.stable.as_ref()), status.and_then(|s| s.candidate.as_ref())];
        let previous = status.and_then(|s| s.probation.as_ref()).map(|p| &p.previous);
        let meant = meant.into_iter().flatten().map(|backend| backend.name.as_str());
        let mut services: Vec<Box<str>> =
            meant.chain(arms.into_iter().chain([previous]).flatten().map(|arm| arm.service.as_str())).map(Box::from).collect();
        services.sort();
        services.dedup();
        Self {
            policy: spec.policy_ref.name.as_str().into(),
            adopted: spec.route.adopt.as_ref().map(|adopted| adopted.name.as_str().into()),
            services: services.into(),
        }
    }
}

impl Resource for Card {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ModelRollout::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ModelRollout::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ModelRollout::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ModelRollout::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
