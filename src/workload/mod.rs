//! Workloads of revisions: builds, creates, repairs, scales and reads the objects that run one model.
//! Deliberately absent: when to do it, and everything about traffic. What is particular to a kind lives in that kind's file.
//!
//! ```text
//! build       the wanted objects, as values        deployment  all that is particular to apps/v1 Deployment
//! apply       creates, adopts, repairs, scales     record      one ControllerRevision per revision
//! view        what the cluster says, as values     cause       why pods are not ready, and what tripped
//! live        watches and lists for `view`         preflight   foreign Services that would select candidate pods
//! ```

mod apply;
mod build;
mod calls;
mod cause;
mod deployment;
mod error;
mod live;
mod preflight;
mod record;
mod view;

use rollout_core::revision::RevisionId;
use serde_json::Value;

pub use crate::index::Group;
pub use apply::{Ensured, Workloads};
pub use build::{Children, build, control_for_service};
pub use cause::Tripped;
pub use error::WorkloadError;
pub use live::{Stores, Touched, ready_now, selected_pods, tripped_now};
pub use preflight::foreign_selectors;
pub use record::{Record, Records};
pub use view::{Foreign, Owned, foreign_view, owned_views, ready_endpoints};

/// Label with the name of the rollout, on every object that belongs to one.
pub const ROLLOUT_LABEL: &str = "espalier.dev/rollout";
/// Label with the revision, on every object that belongs to one; Prometheus shows it as `espalier_dev_revision`.
pub const REVISION_LABEL: &str = "espalier.dev/revision";
/// Environment variable that tells a container its revision.
pub const REVISION_ENV: &str = "ESPALIER_REVISION";
/// Name under which our writes appear in `managedFields`.
pub const FIELD_MANAGER: &str = "espalier";

/// The rollout that owns what is created here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the rollout and of everything it owns.
    pub namespace: String,
    /// Name of the rollout.
    pub name: String,
    /// Uid of the rollout: an object of the same name made later is another owner.
    pub uid: String,
}

/// Name of the workload, Service and record of `revision`: DNS-1035 when the rollout's name is.
pub fn child_name(rollout: &str, revision: &RevisionId) -> String {
    format!("{rollout}-{revision}")
}

/// Name of the control Service over the pods of `revision`.
pub fn control_name(rollout: &str, revision: &RevisionId) -> String {
    rollout_core::decide::control_name(rollout, revision)
}

/// Kinds of workload that a template may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
}

impl Kind {
    /// The kind of `template`, if it is on the list.
    pub fn of(template: &Value) -> Result<Self, WorkloadError> {
        let text = |key| template.get(key).and_then(Value::as_str).unwrap_or("nothing");
        match (text("apiVersion"), text("kind")) {
            (deployment::API_VERSION, deployment::KIND) => Ok(Self::Deployment),
            (version, kind) => Err(WorkloadError::Unsupported { found: format!("{version} {kind}") }),
        }
    }

    /// Plural name in the API.
    const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => deployment::PLURAL,
        }
    }

    /// API group and version.
    const fn api_version(self) -> &'static str {
        match self {
            Self::Deployment => deployment::API_VERSION,
        }
    }

    /// Where the pod template is.
    const fn pod_template(self) -> &'static str {
        match self {
            Self::Deployment => deployment::POD_TEMPLATE,
        }
    }

    /// Where an entry of `managedFields` says that its manager wrote the pod template.
    const fn pod_template_fields(self) -> &'static str {
        match self {
            Self::Deployment => deployment::POD_TEMPLATE_FIELDS,
        }
    }

    /// The number of pods that a live object asks for.
    fn replicas(self, live: &Value) -> i64 {
        match self {
            Self::Deployment => deployment::replicas(live),
        }
    }

    /// The change that sets the number of pods and nothing else.
    fn scaled(self, replicas: i32) -> Value {
        match self {
            Self::Deployment => deployment::scale(replicas),
        }
    }

    /// Kind as people read it.
    const fn name(self) -> &'static str {
        match self {
            Self::Deployment => deployment::KIND,
        }
    }
}

#[cfg(test)]
mod tests;
