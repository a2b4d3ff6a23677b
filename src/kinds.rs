//! Waits until the API server serves the kinds that the operator lives on, and says which one is missing.
//! Installs nothing: CRDs come with the chart, and with the gateway.

use std::time::Duration;

use kube::Client;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::client::{CALL_TIMEOUT, timed};
use crate::server::Readiness;

/// Group and version, and the plural names in it that are needed.
const NEEDED: [(&str, &[&str]); 2] =
    [("espalier.dev/v1alpha1", &["modelrollouts", "evaluationpolicies"]), ("gateway.networking.k8s.io/v1", &["httproutes"])];
/// Wait between looks.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns when every needed kind is served. Until then `/readyz` says what is missing.
pub async fn served(client: &Client, readiness: &Readiness) {
    let mut said = String::new();
    while let Some(problem) = missing(client).await {
        if problem != said {
            warn!("{problem}");
            readiness.missing(problem.clone());
            said = problem;
        }
        sleep(AGAIN).await;
    }
    if !said.is_empty() {
        info!("every needed kind is served now");
    }
}

async fn missing(client: &Client) -> Option<String> {
    for (group_version, plurals) in NEEDED {
        let served = match timed(CALL_TIMEOUT, client.list_api_group_resources(group_version)).await {
            Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Some(format!("cannot ask the API server for the kinds of {group_version}: {error}")),
        };
        if let Some(problem) = absent(group_version, plurals, &served) {
            return Some(problem);
        }
    }
    None
}

fn absent(group_version: &str, plurals: &[&str], served: &[String]) -> Option<String> {
    let plural = plurals.iter().find(|plural| !served.iter().any(|name| name == *plural))?;
    let (group, version) = group_version.split_once('/')?;
    Some(format!("CRD {plural}.{group} is not served in version {version}; install it, and the operator goes on by itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_that_is_missing_is_named() {
        let served = ["modelrollouts".to_owned(), "modelrollouts/status".to_owned()];
        let problem = absent(NEEDED[0].0, NEEDED[0].1, &served).unwrap();
        assert!(problem.starts_with("CRD evaluationpolicies.espalier.dev is not served in version v1alpha1"), "{problem}");
        assert!(absent(NEEDED[0].0, &["modelrollouts"], &served).is_none());
    }
}
