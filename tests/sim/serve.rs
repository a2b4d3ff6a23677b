//! The simulated API server as HTTP: requests of one process in, answers out, with latency and faults on the way.
//! The rules are the store's; what may go wrong is said by [`crate::faults`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body as Answer;
use espalier::clock::Clock;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::BoxError;

use crate::faults::{Effect, Fate};
use crate::oracle;
use crate::schema;
use crate::store::{ROLLOUTS, Refusal, Resource, SERVED, Writer, selected, text};
use crate::world::{Shared, Task, World, lock};

/// Who calls.
#[derive(Clone)]
pub struct Caller {
    pub name: String,
    pub clock: Clock,
    /// Whether the world's agenda brings its calls and its answers. Else it waits by its own clock, so that what a frozen process had on its way
    /// arrives after it goes on.
    pub on_agenda: bool,
}

/// One call, understood.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub of: Option<Resource>,
    pub path: String,
    pub namespace: Option<String>,
    pub name: String,
    pub subresource: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    /// A number that the same request always has: of several in one instant it says which comes first.
    pub mark: u64,
}

impl Call {
    async fn read(request: Request<Body>) -> Result<Self, BoxError> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let mark = mark(&[parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &bytes]);
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        let pairs = reqwest::Url::parse(&format!("http://api{}", parts.uri))?;
        let query = pairs.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        let mut call = Self {
            method: parts.method,
            of: None,
            path: path.clone(),
            namespace: None,
            name: String::new(),
            subresource: String::new(),
            query,
            body,
            mark,
        };
        call.place(&path);
        Ok(call)
    }

    fn place(&mut self, path: &str) {
        let mut words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let group_version = match words.first() {
            Some(&"api") if words.len() > 2 => words.drain(..2).nth(1).unwrap_or_default().to_owned(),
            Some(&"apis") if words.len() > 3 => words.drain(..3).skip(1).collect::<Vec<_>>().join("/"),
            _ => return,
        };
        if words.first() == Some(&"namespaces") && words.len() > 2 {
            self.namespace = Some(words[1].to_owned());
            words.drain(..2);
        }
        self.of = SERVED.into_iter().find(|one| one.group_version == group_version && one.plural == words[0]);
        words.get(1).copied().unwrap_or_default().clone_into(&mut self.name);
        words.get(2).copied().unwrap_or_default().clone_into(&mut self.subresource);
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    pub fn is_dry(&self) -> bool {
        self.query.contains_key("dryRun")
    }

    pub fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    /// Whether the call is a step of the operator's work: a write that is no lease, event or trial.
    pub fn is_step(&self) -> bool {
        self.is_write() && !self.is_dry() && self.of.is_some_and(|of| of.plural != "leases" && of.plural != "events")
    }

    fn get(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }
}

/// A number from texts that is the same on every machine (FNV-1a, Fowler, Noll & Vo 1991).
pub fn mark(texts: &[&[u8]]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    texts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, text| fold(text.iter().fold(hash, fold), &0xff))
}

/// Answers one request, or never.
pub async fn serve(world: Shared, caller: Caller, request: Request<Body>) -> Outcome {
    let call = Call::read(request).await?;
    let (reply, answer) = oneshot::channel();
    let slow = {
        let mut world = lock(&world);
        world.now = world.now.max(caller.clock.now());
        world.calls += 1;
        if let Some(read) = &mut world.read
            && call.method == Method::GET
            && !call.name.is_empty()
            && call.of == Some(ROLLOUTS)
        {
            read.push(call.name.clone());
        }
        oracle::sent(&mut world, &caller, &call);
        let fate = crate::faults::fate(&mut world, &call);
        if caller.on_agenda {
            let (when, mark) = (world.now + fate.before, call.mark);
            world.schedule_in_turn(when, mark, Task::Arrive(Box::new(Coming { caller, call, fate, reply })));
            None
        } else {
            Some((caller, call, fate))
        }
    };
    let Some((caller, call, fate)) = slow else {
        return match answer.await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        };
    };
    tokio::time::sleep(fate.before.to_std()?).await;
    let outcome = {
        let mut world = lock(&world);
        world.now = world.now.max(caller.clock.now());
        if world.crashed { None } else { arrive(&mut world, &caller, &call, &fate) }
    };
    let Some(outcome) = outcome else { return std::future::pending().await };
    tokio::time::sleep(fate.after.to_std()?).await;
    outcome
}

pub type Outcome = Result<Response<Answer>, BoxError>;

/// A call on its way to the server.
pub struct Coming {
    caller: Caller,
    call: Call,
    fate: Fate,
    reply: oneshot::Sender<Outcome>,
}

/// A call reaches the server; its answer goes back after a while, alone in its instant: of two that came together, the libraries' hash maps would
/// choose who goes on first.
pub fn come(world: &mut World, coming: Coming) {
    let Coming { caller, call, fate, reply } = coming;
    if world.crashed || reply.is_closed() {
        return;
    }
    if let Some(outcome) = arrive(world, &caller, &call, &fate) {
        let when = world.free_instant(world.now + fate.after);
        world.schedule(when, Task::Reply { reply, outcome });
    }
}

/// What happens at the server; `None` when no answer will ever come.
fn arrive(world: &mut World, caller: &Caller, call: &Call, fate: &Fate) -> Option<Outcome> {
    let dies = call.is_step() && {
        world.writes += 1;
        world.crash.is_some_and(|crash| crash.at == world.writes)
    };
    let lands = !dies || world.crash.is_some_and(|crash| crash.lands);
    let answer = match &fate.effect {
        _ if !lands => None,
        Effect::Hang => None,
        Effect::Refuse(refusal) => Some(Err(refusal.clone())),
        Effect::Broken | Effect::None | Effect::LoseReply(_) => Some(perform(world, caller, call)),
    };
    tell(world, caller, call, answer.as_ref(), &fate.effect, dies);
    if dies {
        world.crashed = true;
        world.bell.notify_one();
        return None;
    }
    let answer = answer?;
    match &fate.effect {
        Effect::LoseReply(None) => None,
        Effect::LoseReply(Some(refusal)) => Some(response(refusal.code, refusal.body().to_string().into_bytes())),
        Effect::Broken => Some(Err("connection reset by peer".into())),
        _ => Some(match answer {
            Ok(done) => done.into_response(),
            // What no handler serves is answered by none that speaks JSON.
            Err(refusal) if refusal.code == 404 && refusal.reason.is_empty() => response(404, refusal.message.into_bytes()),
            Err(refusal) => response(refusal.code, refusal.body().to_string().into_bytes()),
        }),
    }
}

/// A good answer.
enum Done {
    Object(u16, Arc<Value>),
    Text(Vec<u8>),
    Stream(Answer),
}

impl Done {
    fn into_response(self) -> Outcome {
        match self {
            Self::Object(code, object) => response(code, object.to_string().into_bytes()),
            Self::Text(body) => response(200, body),
            Self::Stream(body) => Ok(Response::builder().status(200).header("content-type", "application/json").body(body)?),
        }
    }

    const fn code(&self) -> u16 {
        match self {
            Self::Object(code, _) => *code,
            _ => 200,
        }
    }
}

fn response(code: u16, body: Vec<u8>) -> Outcome {
    Ok(Response::builder().status(code).header("content-type", "application/json").body(Answer::from(body))?)
}

fn perform(world: &mut World, caller: &Caller, call: &Call) -> Result<Done, Refusal> {
    let Some(of) = call.of else { return discover(call) };
    let namespace = call.namespace.clone();
    match (&call.method, call.name.as_str()) {
        (&Method::GET, "") if call.is_watch() => Ok(watch(world, call, of, namespace)),
        (&Method::GET, "") => Ok(list(world, call, of, namespace.as_deref())),
        (&Method::GET, name) => {
            let found = world.store.get(of, &namespace.unwrap_or_default(), name).cloned();
            let found = found.ok_or_else(|| Refusal::new(404, "NotFound", format!("{} \"{name}\" not found", of.plural)))?;
            Ok(Done::Object(200, found))
        }
        _ => change(world, caller, call, of, &namespace.unwrap_or_default()),
    }
}

fn change(world: &mut World, caller: &Caller, call: &Call, of: Resource, namespace: &str) -> Result<Done, Refusal> {
    let now = world.stamp();
    let manager = call.get("fieldManager");
    let manager = if manager.is_empty() { "unknown" } else { manager };
    let writer = Writer { manager, now: &now, status: call.subresource == "status", dry_run: call.is_dry() };
    oracle::about_to_write(world, call, of, namespace);
    let (mut body, name) = (call.body.clone(), call.name.as_str());
    if call.method == Method::POST || call.method == Method::PUT {
        schema::admit(of, &mut body, writer.status, world.tomorrow)?;
    }
    let absent = world.store.get(of, namespace, name).is_none();
    let result = match call.method {
        Method::POST => world.carry_out(of, |store| store.create(of, namespace, body, &writer)),
        Method::PUT => world.carry_out(of, |store| store.replace(of, namespace, name, body, &writer)),
        Method::PATCH => world.carry_out(of, |store| store.patch(of, namespace, name, &body, &writer)),
        Method::DELETE => {
            let uid = body.pointer("/preconditions/uid").and_then(Value::as_str);
            world.carry_out(of, |store| store.delete(of, namespace, name, uid, &writer))
        }
        _ => return Err(Refusal::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
    };
    if result.is_ok() && !call.is_dry() {
        oracle::written(world, caller, call, of);
    }
    // Who deletes is told of success, but for the oldest kinds, which are sent as they were.
    let is_gone = call.method == Method::DELETE && !call.is_dry() && world.store.get(of, namespace, name).is_none();
    if is_gone && ![crate::store::SERVICES, crate::store::PODS].contains(&of) {
        let details = json!({"name": name, "kind": of.plural});
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        return result.map(|_| Done::Text(success.to_string().into_bytes()));
    }
    let created = call.method == Method::POST || absent && call.method == Method::PUT;
    result.map(|object| Done::Object(if created { 201 } else { 200 }, object))
}

fn list(world: &World, call: &Call, of: Resource, namespace: Option<&str>) -> Done {
    let from: usize = call.get("continue").parse().unwrap_or(0);
    let limit: usize = call.get("limit").parse().unwrap_or(usize::MAX);
    let all: Vec<_> = world.store.list(of, namespace).filter(|object| selected(object, call.get("labelSelector"))).collect();
    let page: Vec<Cow<'_, Value>> = all.iter().skip(from).take(limit).map(|object| of.in_a_list(object)).collect();
    let more = all.len().saturating_sub(from + page.len());
    let token = if more > 0 { (from + page.len()).to_string() } else { String::new() };
    let metadata = json!({"resourceVersion": world.store.version().to_string(), "continue": token});
    let items = page.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (version, kind) = (of.group_version, of.kind);
    Done::Text(format!(r#"{{"apiVersion":"{version}","kind":"{kind}List","metadata":{metadata},"items":[{items}]}}"#).into_bytes())
}

fn watch(world: &mut World, call: &Call, of: Resource, namespace: Option<String>) -> Done {
    let (lines, coming) = unbounded_channel();
    let from = call.get("resourceVersion").parse().unwrap_or(0);
    let timeout = call.get("timeoutSeconds").parse().unwrap_or(290);
    let expired = world.faults.expires(world.now, &mut world.dice);
    if expired || world.open(of, namespace, call.get("labelSelector"), from, timeout, lines.clone()).is_none() {
        let gone = Refusal::new(410, "Expired", format!("too old resource version: {from}"));
        let _ = lines.send(format!("{}\n", json!({"type": "ERROR", "object": gone.body()})).into_bytes());
    }
    let stream = UnboundedReceiverStream::new(coming).map(Ok::<_, std::io::Error>);
    Done::Stream(Answer::from_stream(stream))
}

fn discover(call: &Call) -> Result<Done, Refusal> {
    let group_version = call.path.trim_start_matches("/apis/");
    let served: Vec<Value> = SERVED
        .iter()
        .filter(|one| one.group_version == group_version)
        .map(|one| json!({"name": one.plural, "singularName": "", "namespaced": true, "kind": one.kind, "verbs": ["get"]}))
        .collect();
    if served.is_empty() {
        return Err(Refusal::new(404, "", "404 page not found"));
    }
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": served});
    Ok(Done::Text(list.to_string().into_bytes()))
}

/// The line of the trace.
fn tell(world: &mut World, caller: &Caller, call: &Call, answer: Option<&Result<Done, Refusal>>, effect: &Effect, dies: bool) {
    let renewal = call.of.is_some_and(|of| of.plural == "leases") && matches!(answer, Some(Ok(_)));
    if matches!(effect, Effect::None) && (!call.is_write() || call.is_dry() || renewal) {
        return;
    }
    let outcome = match answer {
        None => "no answer".to_owned(),
        Some(Ok(done)) => done.code().to_string(),
        Some(Err(refusal)) => format!("{} {} {}", refusal.code, refusal.reason, refusal.message),
    };
    let note = match call.of {
        Some(of) if call.is_write() => note(call, of),
        _ => String::new(),
    };
    let fault = match effect {
        Effect::None | Effect::Refuse(_) => "",
        Effect::Hang => " (hangs)",
        Effect::Broken => " (landed, connection lost)",
        Effect::LoseReply(_) => " (landed, reply lost)",
    };
    let death = if dies { " and the process dies" } else { "" };
    let dry = if call.is_dry() { " (dry run)" } else { "" };
    world.say(&format!("{} {} {}{dry} -> {outcome}{fault}{death}{note}", caller.name, call.method, call.path));
}

fn note(call: &Call, of: Resource) -> String {
    match of.plural {
        "httproutes" => format!("  {}", oracle::shares(&call.body)),
        "modelrollouts" if call.subresource == "status" => {
            let status = &call.body["status"];
            let attempt = &status["attempt"];
            let ready = oracle::condition(&call.body, "Ready");
            format!(
                "  Ready={} {} stage {} step {} intent {}: {}",
                ready.0,
                text(attempt, "/phase"),
                attempt["stage"],
                attempt["step"],
                attempt["intent"],
                text(status, "/display/message")
            )
        }
        "events" => format!("  {}: {}", text(&call.body, "/reason"), text(&call.body, "/note")),
        _ => String::new(),
    }
}
