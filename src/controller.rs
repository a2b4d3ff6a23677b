//! Runs the operator: lease first, then watches, the controller, the sampler; and ends in order.
//! Holds no rule about rollouts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tracing::{debug, error, info, warn};

use crate::card::Card;
use crate::client::FenceLayer;
use crate::clock::{Clock, Tenure};
use crate::config::Config;
use crate::context::{Context, WAKE_QUEUE};
use crate::events::Events;
use crate::first::FirstLooks;
use crate::lane::Lane;
use crate::leader::{self, Leadership, Replica};
use crate::metrics::Metrics;
use crate::prometheus::{SecretSource, Servers};
use crate::reconcile::{ReconcileError, reconcile};
use crate::roster::Roster;
use crate::server::{self, Heartbeats, Readiness};
use crate::stores::{FILL_TIMEOUT, Stores};
use crate::tracker::{Key, Tracker};
use crate::{client, kinds, sampler};

/// How long the sampler may be silent before /livez fails.
const SAMPLER_SILENCE: Duration = Duration::from_mins(1);
/// First and longest wait after an error of one object.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_mins(1));
/// Wait after a conflict: somebody else was faster, so read again.
const CONFLICT: Duration = Duration::from_millis(50);

/// Makes the client whose writes go through this fence.
pub type Fenced = Box<dyn FnOnce(FenceLayer) -> BoxFuture<'static, Result<Client, kube::Error>> + Send>;

/// What the operator stands on: the API server, Prometheus and the time of day, as the machine has them or as a test does.
pub struct Ground {
    /// Reads, and writes the lease.
    pub reader: Client,
    /// Everything else that writes.
    pub fenced: Fenced,
    /// Prometheus servers.
    pub servers: Servers,
    /// This process in the lease, and its clock.
    pub replica: Replica,
}

/// What the operator says of itself, shared with who answers for it.
#[derive(Clone)]
pub struct Vitals {
    /// Our own metrics.
    pub metrics: Arc<Metrics>,
    /// Signs of life of the loops.
    pub beats: Heartbeats,
    /// Whether we are ready.
    pub readiness: Readiness,
}

impl Default for Vitals {
    fn default() -> Self {
        Self { metrics: Arc::new(Metrics::new()), beats: Heartbeats::new(), readiness: Readiness::new() }
    }
}

/// Runs until a signal, or until leadership is lost, which is an error.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let ground = Ground {
        reader: client::connect().await.context("cannot reach the Kubernetes API server")?,
        fenced: Box::new(|fence| Box::pin(client::connect_fenced(fence))),
        servers: Servers::default(),
        replica: Replica::of(&config.pod_name),
    };
    let vitals = Vitals::default();
    let Vitals { metrics, beats, readiness } = vitals.clone();
    server::serve(config.health_addr, config.metrics_addr, metrics, beats, readiness).await.context("cannot listen")?;
    operate(config, ground, vitals, shutdown()?).await
}

/// Waits for what it needs and for the lease, then operates until `stop` resolves, or until leadership is lost, which is an error.
pub async fn operate(config: Config, ground: Ground, vitals: Vitals, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Ground { reader, fenced, servers, replica } = ground;
    let Vitals { metrics, beats, readiness } = vitals.clone();
    let clock = replica.clock.clone();
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        () = kinds::served(&reader, &readiness) => {}
    }
    let (leadership, lost) = tokio::select! {
        () = &mut stop => return Ok(()),
        acquired = lead(&reader, replica, &config, &metrics, &readiness) => acquired?,
    };
    info!(version = env!("CARGO_PKG_VERSION"), namespaces = ?config.watch_namespaces, "espalier leads");
    readiness.missing("the watches are not filled yet");
    beats.expect("sampler", SAMPLER_SILENCE);
    let client = fenced(FenceLayer { leadership: leadership.clone(), metrics: Arc::clone(&metrics) }).await?;
    let (ctx, wakes) = context(client, config, servers, clock, &vitals, leadership.clone());
    let sampling = tokio::spawn(sampler::run(Arc::clone(&ctx)));
    let controlling = tokio::spawn(control(Arc::clone(&ctx), wakes, readiness));
    let outcome = tokio::select! {
        () = &mut stop => { info!("shutting down"); Ok(()) }
        () = lost => Err(anyhow::anyhow!("the lease was lost; ending so that nothing is written without it")),
        ended = controlling => Err(anyhow::anyhow!("the controller ended: {ended:?}")),
        ended = sampling => Err(anyhow::anyhow!("the sampler ended: {ended:?}")),
    };
    // No write starts from here on; what is in flight is fenced by resource versions.
    leadership.release().await;
    outcome
}

async fn lead(
    client: &Client,
    replica: Replica,
    config: &Config,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
) -> anyhow::Result<(Leadership, BoxFuture<'static, ()>)> {
    if !config.leader_elect {
        return Ok((Leadership::always(), Box::pin(std::future::pending())));
    }
    let namespace = config.lease_namespace.clone().unwrap_or_else(|| config.pod_namespace.clone());
    readiness.standby();
    info!(lease = config.lease_name, namespace, "waiting for the lease");
    let (leadership, lost) = leader::acquire(client.clone(), &namespace, &config.lease_name, replica).await.context("leader election")?;
    metrics.leads(true);
    Ok((leadership, lost))
}

type Wakes = futures::stream::BoxStream<'static, ObjectRef<Card>>;

fn context(
    client: Client,
    config: Config,
    servers: Servers,
    clock: Clock,
    vitals: &Vitals,
    leadership: Leadership,
) -> (Arc<Context>, Wakes) {
    let Vitals { metrics, beats, .. } = vitals.clone();
    let (stores, touched) = Stores::watch(&client, &config.namespaces());
    let (wake, waked) = mpsc::channel(WAKE_QUEUE);
    // A task of its own: the controller polls its triggers only while it has looks to spare, and looks wait for the stores to follow.
    let (follow, followed) = mpsc::unbounded_channel();
    tokio::spawn(touched.for_each(move |key: Key| {
        // The controller ends with the process.
        let _ = follow.send(ObjectRef::new(&key.name).within(&key.namespace));
        std::future::ready(())
    }));
    let wakes = futures::stream::select(UnboundedReceiverStream::new(followed), ReceiverStream::new(waked)).boxed();
    let ctx = Context {
        tenure: Tenure::by(&clock),
        secrets: SecretSource::new(client.clone()),
        events: Events::start(client.clone(), Arc::clone(&metrics), clock.clone()),
        stores,
        tracker: Tracker::default(),
        servers,
        clock,
        metrics,
        leadership,
        beats,
        first: FirstLooks::default(),
        lane: Lane::new(usize::from(config.rollback_concurrency)),
        wake,
        client,
        config,
    };
    (Arc::new(ctx), wakes)
}

async fn control(ctx: Arc<Context>, wakes: Wakes, readiness: Readiness) {
    let (store, writer) = reflector::store();
    ctx.stores.set_rollouts(store.clone());
    tokio::spawn(fill(Arc::clone(&ctx), readiness));
    let config = watcher::Config::default().timeout(60).page_size(50);
    let namespaces = ctx.config.namespaces();
    let mut roster = Roster::new(store.clone(), &namespaces);
    let watches = namespaces.into_iter().enumerate().map(|(position, namespace)| {
        let api: Api<Card> = match namespace {
            Some(namespace) => Api::namespaced(ctx.client.clone(), &namespace),
            None => Api::all(ctx.client.clone()),
        };
        watcher(api, config.clone()).default_backoff().map(move |event| (position, event)).boxed()
    });
    let events = futures::stream::select_all(watches).flat_map(move |(position, event)| {
        let told = event.map_or_else(|error| vec![Err(error)], |event| roster.tell(position, event).into_iter().map(Ok).collect());
        futures::stream::iter(told)
    });
    let backoff = Backoff::default();
    let reset = backoff.clone();
    let (over, left) = (backoff.clone(), Arc::clone(&ctx));
    let rollouts = events.reflect(writer).inspect_ok(move |event| match event {
        watcher::Event::InitApply(card) => left.first.listed(card),
        watcher::Event::Delete(card) => {
            // Nobody looks at what is gone, so that this is the last that is heard of it.
            left.forget(&card.key());
            over.forget(&ObjectRef::from_obj(card));
        }
        watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Apply(_) => {}
    });
    let rollouts = rollouts.applied_objects();
    Controller::for_stream(rollouts, store)
        .with_config(ControllerConfig::default().concurrency(ctx.config.concurrency).debounce(Duration::from_millis(20)))
        .reconcile_on(wakes)
        .run(
            move |object, ctx| {
                let reset = reset.clone();
                async move {
                    let key = ObjectRef::from_obj(object.as_ref());
                    let result = Box::pin(reconcile(object, ctx)).await;
                    if result.is_ok() {
                        reset.forget(&key);
                    }
                    result
                }
            },
            move |object, error, _| backoff.after(&object, error),
            ctx,
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                debug!(%error, "a look ended with an error");
            }
        })
        .await;
}

/// Says that it is ready once the watches are filled.
async fn fill(ctx: Arc<Context>, readiness: Readiness) {
    loop {
        match tokio::time::timeout(FILL_TIMEOUT, ctx.stores.fill()).await {
            Ok(Ok(())) => return readiness.ready(),
            Ok(Err(error)) => return error!(%error, "a watch ended before it was filled"),
            Err(_) => error!("the watches were not filled within {} s; may the operator list what its role names?", FILL_TIMEOUT.as_secs()),
        }
    }
}

/// Waits per object after errors in a row, so that one broken object never holds up another.
#[derive(Clone, Default)]
struct Backoff {
    errors: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Backoff {
    fn after(&self, object: &Arc<Card>, error: &ReconcileError) -> Action {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if error.is_conflict() {
            debug!(namespace, name, %error, "somebody else wrote first; reading again");
            return Action::requeue(CONFLICT);
        }
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let count = errors.entry(format!("{namespace}/{name}")).or_default();
        *count += 1;
        let wait = BACKOFF.0.saturating_mul(1 << (*count).min(10)).min(BACKOFF.1);
        warn!(namespace, name, %error, again_in = ?wait, "looking at the rollout failed");
        Action::requeue(wait)
    }

    fn forget(&self, object: &ObjectRef<Card>) {
        let key = format!("{}/{}", object.namespace.clone().unwrap_or_default(), object.name);
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// Resolves at SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
