//! How commands reach rollouts in a cluster: flags as kubectl has them, a limit on every call, errors as sentences.
//! Reads only; requests are written elsewhere.

use std::error::Error;

use clap::Args;
use kube::api::ListParams;
use kube::{Api, Client};
use thiserror::Error;

use crate::api::ModelRollout;
use crate::client::{CALL_TIMEOUT, CallError, connect_under, timed};

/// Exit code when the rollout is not there or cannot be read.
pub const UNREADABLE: u8 = 3;

/// Flags that say which cluster and namespace is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// Namespace of the rollout; default: that of the context.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; default: the current one.
    #[arg(long)]
    pub context: Option<String>,
}

/// Why a cluster gave no answer.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No kubeconfig, or one that cannot be used.
    #[error("no connection to a cluster: {0}")]
    NoConnection(#[source] kube::Error),
    /// There is no such rollout.
    #[error("there is no ModelRollout {name} in namespace {namespace}")]
    NotFound {
        /// Namespace that was looked in.
        namespace: String,
        /// Name that was looked for.
        name: String,
    },
    /// The API server refused or did not answer.
    #[error("{}", reasons(.0))]
    Call(#[from] CallError),
}

/// An error with what caused it, down to the connection that was refused.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Rollouts of one namespace.
#[derive(Clone)]
pub struct Rollouts {
    /// The connection.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Rollouts {
    /// Connects as the kubeconfig says, or as the pod's service account.
    pub async fn connect(target: &Target) -> Result<Self, ClusterError> {
        let client = connect_under(target.context.clone()).await.map_err(ClusterError::NoConnection)?;
        Ok(Self::of(client, target))
    }

    /// The same over a connection that is there.
    pub fn of(client: Client, target: &Target) -> Self {
        let namespace = target.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Self { client, namespace }
    }

    /// The typed API.
    pub fn api(&self) -> Api<ModelRollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One rollout, live.
    pub async fn get(&self, name: &str) -> Result<ModelRollout, ClusterError> {
        let found = timed(CALL_TIMEOUT, self.api().get_opt(name)).await?;
        found.ok_or_else(|| ClusterError::NotFound { namespace: self.namespace.clone(), name: name.to_owned() })
    }

    /// All rollouts of the namespace, by name.
    pub async fn list(&self) -> Result<Vec<ModelRollout>, ClusterError> {
        let mut found = timed(CALL_TIMEOUT, self.api().list(&ListParams::default())).await?.items;
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_do_something_about_is_in_the_sentence() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused by 10.0.0.1:6443");
        let error = ClusterError::from(CallError::Unreachable(Box::new(kube::Error::Service(Box::new(refused)))));
        assert!(error.to_string().contains("connection refused by 10.0.0.1:6443"), "{error}");
    }
}
