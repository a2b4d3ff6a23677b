//! The two resources of `espalier.dev/v1alpha1` as Kubernetes knows them: types that travel, and the definitions that install them.
//! Does not interpret a spec; `rollout_core::validate` does.

mod definition;
pub mod strict;
mod structural;

use std::borrow::Cow;

use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::status::Status;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

pub use definition::{Definition, definitions, evaluation_policies, model_rollouts};

/// API group of both resources.
pub const GROUP: &str = "espalier.dev";
/// Served and stored version of both resources.
pub const VERSION: &str = "v1alpha1";
/// Group and version as objects carry them.
pub const API_VERSION: &str = "espalier.dev/v1alpha1";

/// Which model should serve (`mro`); status says which one does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ModelRollout {
    /// Name, namespace, labels and so on.
    pub metadata: ObjectMeta,
    /// What the user wants; never written by the operator.
    pub spec: RolloutSpec,
    /// What is; written by the operator alone. Objects that were never seen have generation -1 there.
    #[serde(default)]
    pub status: Option<Status>,
}

/// What "good enough" means (`evpol`), reusable by many rollouts of one namespace.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EvaluationPolicy {
    /// Name, namespace, labels and so on.
    pub metadata: ObjectMeta,
    /// Server, risk, windows and guardrails.
    pub spec: PolicySpec,
}

impl ModelRollout {
    /// A rollout called `name` without a status.
    pub fn new(name: &str, spec: RolloutSpec) -> Self {
        Self { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, spec, status: None }
    }
}

impl EvaluationPolicy {
    /// A policy called `name`.
    pub fn new(name: &str, spec: PolicySpec) -> Self {
        Self { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, spec }
    }
}

impl Serialize for ModelRollout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("ModelRollout", 5)?;
        object.serialize_field("apiVersion", API_VERSION)?;
        object.serialize_field("kind", "ModelRollout")?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        match &self.status {
            Some(status) => object.serialize_field("status", status)?,
            None => object.skip_field("status")?,
        }
        object.end()
    }
}

impl Serialize for EvaluationPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("EvaluationPolicy", 4)?;
        object.serialize_field("apiVersion", API_VERSION)?;
        object.serialize_field("kind", "EvaluationPolicy")?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        object.end()
    }
}

/// Implements `kube::Resource` for a namespaced kind of this group.
macro_rules! resource {
    ($kind:ident, $plural:literal) => {
        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                GROUP.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                VERSION.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(ModelRollout, "modelrollouts");
resource!(EvaluationPolicy, "evaluationpolicies");
