//! Kubernetes events: one per transition, published in the background from a bounded queue.
//! Never fails or holds up its caller: what cannot be published is counted and logged, since status has the whole story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as ApiEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use rollout_core::decide::Event;
use rollout_core::words::clip;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::client::{CALL_TIMEOUT, CallError, FIELD_MANAGER, timed};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Events that wait to be published.
pub const QUEUE: usize = 256;
/// The same event again within this time is counted in the first one.
const REPEAT: Duration = Duration::from_mins(6);
/// Events that repeats are looked for in.
const REMEMBERED: usize = 1024;
/// Longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Where transitions are told.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Told>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// An event and what it is about.
#[derive(Debug)]
struct Told {
    about: ObjectReference,
    reason: &'static str,
    warning: bool,
    message: String,
    fields: BTreeMap<String, String>,
    at: Timestamp,
}

impl Events {
    /// Starts publishing in the background.
    pub fn start(client: Client, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let (queue, told) = mpsc::channel(QUEUE);
        tokio::spawn(publish_all(client, Arc::clone(&metrics), told));
        Self { queue, metrics, clock }
    }

    /// Tells of a transition of `object`. Returns at once; when the queue is full the event is dropped and counted.
    pub fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, event: &Event) {
        self.publish_with(object, event, BTreeMap::new());
    }

    /// [`Self::publish`] with fields for programs; they become annotations `espalier.dev/<field>`.
    pub fn publish_with<K: Resource<DynamicType = ()>>(&self, object: &K, event: &Event, fields: BTreeMap<String, String>) {
        let Event { reason, warning, message } = event;
        let about = object.object_ref(&());
        let told = Told { about, reason, warning: *warning, message: clip(message, MAX_NOTE), fields, at: self.clock.timestamp() };
        if self.queue.try_send(told).is_err() {
            self.metrics.event("dropped");
        }
    }
}

/// What makes two events the same: object, reason and message.
type Same = (String, &'static str, String);

struct Published {
    name: String,
    count: i32,
    last: Instant,
}

async fn publish_all(client: Client, metrics: Arc<Metrics>, mut told: mpsc::Receiver<Told>) {
    let mut published: BTreeMap<Same, Published> = BTreeMap::new();
    while let Some(told) = told.recv().await {
        published.retain(|_, earlier| earlier.last.elapsed() < REPEAT);
        if published.len() >= REMEMBERED {
            published.clear();
        }
        let same = (told.about.uid.clone().unwrap_or_default(), told.reason, told.message.clone());
        let outcome = match published.get_mut(&same) {
            Some(earlier) => repeat(&client, &told, earlier).await,
            None => create(&client, &told).await.map(|name| {
                published.insert(same, Published { name, count: 1, last: Instant::now() });
            }),
        };
        match outcome {
            Ok(()) => metrics.event("published"),
            Err(error) => {
                metrics.event("failed");
                // A namespace that is being deleted takes no events; that is no fault.
                if error.category() == "Forbidden" || error.category() == "NotFound" {
                    debug!(reason = told.reason, %error, "an event was not taken");
                } else {
                    warn!(reason = told.reason, %error, "an event could not be published");
                }
            }
        }
    }
}

fn api(client: &Client, told: &Told) -> Api<ApiEvent> {
    Api::namespaced(client.clone(), told.about.namespace.as_deref().unwrap_or("default"))
}

async fn create(client: &Client, told: &Told) -> Result<String, CallError> {
    let object = told.about.name.as_deref().unwrap_or("rollout");
    let name = format!("{object}.{:x}", told.at.as_nanosecond());
    let annotations: BTreeMap<String, String> =
        told.fields.iter().map(|(field, value)| (format!("espalier.dev/{field}"), value.clone())).collect();
    let event = ApiEvent {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: told.about.namespace.clone(),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(told.at)),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(told.reason.to_owned()),
        action: Some(told.reason.to_owned()),
        note: Some(told.message.clone()),
        regarding: Some(told.about.clone()),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(std::env::var("POD_NAME").unwrap_or_else(|_| FIELD_MANAGER.to_owned())),
        ..ApiEvent::default()
    };
    timed(CALL_TIMEOUT, api(client, told).create(&PostParams::default(), &event)).await.map(|_| name)
}

/// Counts a repeat in the event that was published first.
async fn repeat(client: &Client, told: &Told, earlier: &mut Published) -> Result<(), CallError> {
    earlier.count = earlier.count.saturating_add(1);
    earlier.last = Instant::now();
    let series = EventSeries { count: earlier.count, last_observed_time: MicroTime(told.at) };
    let patch = Patch::Merge(json!({"series": series}));
    timed(CALL_TIMEOUT, api(client, told).patch(&earlier.name, &PatchParams::default(), &patch)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{Request, Response};
    use http_body_util::BodyExt;
    use k8s_openapi::api::core::v1::Service;
    use kube::client::Body;
    use serde_json::Value;
    use tower::{BoxError, service_fn};

    use super::*;

    type Written = Arc<Mutex<Vec<(String, Value)>>>;

    fn server() -> (Client, Written) {
        let written = Written::default();
        let shared = Arc::clone(&written);
        let service = service_fn(move |request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
                shared.lock().unwrap().push((format!("{} {}", parts.method, parts.uri.path()), body.clone()));
                let answer = json!({"metadata": {}, "eventTime": null});
                Ok::<_, BoxError>(Response::builder().status(200).body(answer.to_string())?)
            }
        });
        (Client::new(service, "ns"), written)
    }

    fn object() -> Service {
        let metadata =
            ObjectMeta { name: Some("digits".into()), namespace: Some("ml".into()), uid: Some("u1".into()), ..ObjectMeta::default() };
        Service { metadata, ..Service::default() }
    }

    fn event(message: &str) -> Event {
        Event { reason: "RolledBack", warning: true, message: message.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn one_event_per_transition_and_repeats_are_counted_in_it() {
        let (client, written) = server();
        let events = Events::start(client, Arc::new(Metrics::new()), Clock::system());
        events.publish_with(&object(), &event("accuracy is 31pp worse"), BTreeMap::from([("revision".to_owned(), "r2".to_owned())]));
        events.publish(&object(), &event("accuracy is 31pp worse"));
        events.publish(&object(), &event("power is 55W"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let written = written.lock().unwrap();
        assert_eq!(written.len(), 3);
        let (call, first) = &written[0];
        assert_eq!(call, "POST /apis/events.k8s.io/v1/namespaces/ml/events");
        assert_eq!(first["regarding"]["name"], "digits");
        assert_eq!((&first["type"], &first["reason"], &first["action"]), (&json!("Warning"), &json!("RolledBack"), &json!("RolledBack")));
        assert_eq!(first["metadata"]["annotations"]["espalier.dev/revision"], "r2");
        assert!(written[1].0.starts_with("PATCH") && written[1].1["series"]["count"] == 2, "{written:?}");
        assert_eq!(written[2].1["note"], "power is 55W");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_api_server_never_holds_up_the_caller() {
        let client = Client::new(service_fn(|_: Request<Body>| std::future::pending::<Result<Response<String>, BoxError>>()), "ns");
        let metrics = Arc::new(Metrics::new());
        let events = Events::start(client, Arc::clone(&metrics), Clock::system());
        tokio::task::yield_now().await;
        for number in 0..QUEUE + 10 {
            events.publish(&object(), &event(&number.to_string()));
        }
        assert!(metrics.encode().contains(r#"espalier_events_total{outcome="dropped"} 10"#), "{}", metrics.encode());
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = clip(&"é".repeat(600), MAX_NOTE);
        assert!(note.len() <= MAX_NOTE && note.ends_with('…'), "{}", note.len());
        assert_eq!(clip("short", MAX_NOTE), "short");
    }
}
