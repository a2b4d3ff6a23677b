//! Every way in which a server can fail to answer, against a real server on this machine's loopback.

use std::sync::atomic::AtomicBool;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::super::server::Auth;
use super::*;

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Hit {
    path: String,
    headers: HeaderMap,
    form: BTreeMap<String, String>,
}

impl Hit {
    fn time(&self) -> f64 {
        self.form["time"].parse().unwrap()
    }
}

type Script = dyn Fn(&Hit) -> Response + Send + Sync;

#[derive(Default)]
struct Seen {
    hits: Vec<Hit>,
    in_flight: usize,
    most_in_flight: usize,
}

/// A server that answers what `script` says, `delay` later.
async fn serve(delay: Duration, script: impl Fn(&Hit) -> Response + Send + Sync + 'static) -> (Server, Arc<Mutex<Seen>>) {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let script: Arc<Script> = Arc::new(script);
    let handler = {
        let seen = Arc::clone(&seen);
        move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
            async move {
                assert_eq!(method, Method::POST);
                let text = format!("http://form/?{}", String::from_utf8(body.to_vec()).unwrap());
                let form = reqwest::Url::parse(&text).unwrap().query_pairs().into_owned().collect();
                let hit = Hit { path: uri.path().to_owned(), headers, form };
                {
                    let mut seen = lock(&seen);
                    seen.hits.push(hit.clone());
                    seen.in_flight += 1;
                    seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
                }
                tokio::time::sleep(delay).await;
                lock(&seen).in_flight -= 1;
                script(&hit)
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    (Server::plain(&address).unwrap(), seen)
}

fn json(status: u16, body: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body.to_owned()).into_response()
}

fn matrix(series: &str) -> Response {
    json(200, &format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#))
}

fn query(text: &str) -> Query {
    Query::new(text)
}

fn ask(namespaces: &[&str], queries: &[&str]) -> BTreeMap<String, BTreeSet<Query>> {
    namespaces.iter().map(|one| ((*one).to_owned(), queries.iter().map(|text| query(text)).collect())).collect()
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn servers() -> Servers {
    Servers { rest: Duration::ZERO, ..Servers::default() }
}

async fn one(servers: &Servers, server: &Server) -> Reading {
    let gathered = servers.gather(server, &ask(&["ml"], &["up"]), instant(1_700_000_000), TimeDelta::seconds(20)).await;
    gathered.readings()[&query("up")].clone()
}

#[tokio::test]
async fn nothing_but_a_whole_matrix_counts_as_an_answer() {
    let plain = |status: u16, kind: &'static str, body: &'static str| {
        (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
    };
    let typed =
        |kind: &str, result: &str| json(200, &format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#));
    let error =
        |status: u16, kind: &str| json(status, &format!(r#"{{"status":"error","errorType":"{kind}","error":"words of the server"}}"#));
    let warned = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store x is away"]}"#;
    let table: Vec<(Response, &str, &str)> = vec![
        (plain(200, "text/html; charset=utf-8", "<html>please log in"), "Unavailable", "text/html; charset=utf-8"),
        (Redirect::to("/login").into_response(), "Unavailable", "redirects are not followed"),
        (plain(502, "text/plain", "bad gateway"), "Unavailable", "HTTP 502"),
        (plain(404, "text/plain", "404 page not found"), "Unavailable", "check the path"),
        (error(400, "bad_data"), "Unavailable", "refused the query with bad_data (HTTP 400): words of the server"),
        (error(422, "execution"), "Unavailable", "execution"),
        (error(503, "timeout"), "Unavailable", "timeout"),
        (error(401, "unauthorized"), "Unavailable", "unauthorized"),
        (error(200, "bad_data"), "Unavailable", "bad_data"),
        (json(500, r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#), "Unavailable", "HTTP 500"),
        (json(200, "{\"status\":"), "Unavailable", "not an answer of the query API"),
        (json(200, "[]"), "Unavailable", "not an answer of the query API"),
        (json(200, r#"{"status":"success"}"#), "WrongType", "no data"),
        (typed("vector", r#"[{"metric":{},"value":[1,"1"]}]"#), "WrongType", "vector"),
        (typed("scalar", r#"[1,"1"]"#), "WrongType", "scalar"),
        (typed("string", r#"[1,"x"]"#), "WrongType", "string"),
        (typed("streams", r#"[{"stream":{}}]"#), "WrongType", "streams"),
        (matrix(r#"{"metric":{"__name__":"h"},"histograms":[[1,{"count":"1","sum":"1"}]]}"#), "WrongType", "native histogram h"),
        (matrix(r#"{"metric":{},"values":[[1,"one"]]}"#), "Unavailable", "not a number"),
        (matrix(r#"{"metric":{},"values":[[1]]}"#), "Unavailable", "not an answer of the query API"),
        (json(200, warned), "PartialResult", "store x is away"),
    ];
    for (response, category, words) in table {
        let response = Mutex::new(Some(response));
        let (server, _) = serve(Duration::ZERO, move |_| lock(&response).take().unwrap()).await;
        match one(&servers(), &server).await {
            Reading::Failed(reason) => {
                assert_eq!(reason.category(), category, "{reason}");
                assert!(reason.to_string().contains(words), "{words:?} is missing in: {reason}");
            }
            Reading::Series(series) => panic!("{category} {words} was taken for an answer: {series:?}"),
        }
    }
}

#[tokio::test]
async fn an_empty_matrix_is_no_failure_and_infos_are_no_warnings() {
    let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"infos":["metric might not be a counter"]}"#;
    let (server, _) = serve(Duration::ZERO, move |_| json(200, body)).await;
    assert!(matches!(one(&servers(), &server).await, Reading::Series(series) if series.is_empty()));
}

#[tokio::test]
async fn a_slow_server_costs_its_timeout_and_no_more() {
    let (mut server, _) = serve(Duration::from_secs(30), |_| matrix("")).await;
    server.timeout = Duration::from_millis(150);
    let start = std::time::Instant::now();
    let Reading::Failed(reason) = one(&servers(), &server).await else { panic!("an answer from a server that does not answer") };
    assert!(reason.to_string().contains("did not answer within 150 ms"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_closed_port_and_a_broken_body_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::plain(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"status\":";
        stream.write_all(head.as_bytes()).await.unwrap();
    };
    let servers = servers();
    let (Reading::Failed(reason), ()) = tokio::join!(one(&servers, &server), accept) else { panic!("half a body was an answer") };
    assert!(reason.to_string().contains("broke off"), "{reason}");
    drop(listener);
    let Reading::Failed(reason) = one(&servers, &server).await else { panic!("an answer from a closed port") };
    assert!(reason.to_string().contains("no connection to http://127.0.0.1"), "{reason}");
}

#[tokio::test]
async fn a_body_beyond_the_cap_is_not_read_to_its_end() {
    let series = r#"{"metric":{"pod":"a"},"values":[[1,"1"],[2,"1"],[3,"1"]]}"#;
    let (server, _) = serve(Duration::ZERO, move |_| matrix(series)).await;
    let small = Servers { body_limit: 40, ..servers() };
    let Reading::Failed(reason) = one(&small, &server).await else { panic!("the cap did not hold") };
    assert!(reason.to_string().contains("too many series"), "{reason}");
    // Chunked bodies announce no length.
    let chunked = move |_: &Hit| {
        let parts = futures::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"          "))));
        ([(header::CONTENT_TYPE, "application/json")], axum::body::Body::from_stream(parts)).into_response()
    };
    let (server, _) = serve(Duration::ZERO, chunked).await;
    let Reading::Failed(reason) = one(&small, &server).await else { panic!("the cap did not hold for a chunked body") };
    assert!(reason.to_string().contains("too many series"), "{reason}");
}

#[tokio::test]
async fn the_request_carries_range_time_tenant_and_credentials() {
    let (plain, seen) = serve(Duration::ZERO, |_| matrix("")).await;
    let tenant = vec![("x-scope-orgid".to_owned(), "team-a".to_owned())];
    let bearer = Server { auth: Auth::Bearer("token".into()), headers: tenant, ..plain.clone() };
    let basic = Server { auth: Auth::Basic("user".into(), "pass".into()), address: format!("{}/prefix", plain.address), ..plain };
    let servers = servers();
    let at = DateTime::from_timestamp_millis(1_700_000_000_250).unwrap();
    for server in [&bearer, &basic] {
        servers.gather(server, &ask(&["ml"], &[r#"up{a!="",b=~"x+y"}"#]), at, TimeDelta::milliseconds(5_500)).await;
    }
    let hits = lock(&seen).hits.clone();
    assert_eq!(hits[0].path, "/api/v1/query");
    assert_eq!(hits[0].form["query"], r#"up{a!="",b=~"x+y"}[5500ms]"#);
    assert_eq!(hits[0].form["time"], "1700000000.250");
    assert_eq!(hits[0].headers["x-scope-orgid"], "team-a");
    assert_eq!(hits[0].headers[header::AUTHORIZATION], "Bearer token");
    assert_eq!(hits[1].path, "/prefix/api/v1/query");
    assert_eq!(hits[1].headers[header::AUTHORIZATION], "Basic dXNlcjpwYXNz");
    assert_eq!(lock(&servers.links).len(), 2);
    servers.retain(&BTreeSet::from([basic]));
    assert_eq!(servers.snapshots().len(), 1);
}

#[tokio::test]
async fn each_query_is_sent_once_and_each_namespace_sees_its_own_series() {
    let (server, seen) = serve(Duration::from_millis(5), |hit| {
        let all = (0..200).map(|n| format!(r#"{{"metric":{{"namespace":"ns{n}","pod":"p"}},"values":[[1,"{n}"]]}}"#));
        let gateway = r#"{"metric":{"namespace":"gateways","envoy_cluster_name":"ns7_digits_80"},"values":[[1,"7"]]}"#.to_owned();
        let nowhere = r#"{"metric":{"pod":"q","job":"ns5","zone":"ns5_a"},"values":[[1,"0"]]}"#.to_owned();
        let exporter = r#"{"metric":{"namespace":"gateways","exported_pod":"p"},"values":[[1,"-1"]]}"#.to_owned();
        let stranger = r#"{"metric":{"namespace":"elsewhere"},"values":[[1,"-2"]]}"#.to_owned();
        assert!(hit.form["query"].ends_with("[20000ms]"));
        matrix(&all.chain([gateway, nowhere, exporter, stranger]).collect::<Vec<_>>().join(","))
    })
    .await;
    let names: Vec<String> = (0..200).map(|n| format!("ns{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["gateways"]).collect();
    let mut asked = ask(&names, &[r#"a{espalier_dev_revision!=""}"#, r#"b{espalier_dev_revision!=""}"#]);
    asked.get_mut("ns7").unwrap().insert(query(r#"a{x!="",job="legacy"}"#));
    let servers = Servers { at_once: 2, ..servers() };
    let gathered = servers.gather(&server, &asked, instant(1_700_000_000), TimeDelta::seconds(20)).await;
    assert_eq!(lock(&seen).hits.len(), 3);
    assert_eq!(lock(&seen).most_in_flight, 2);

    let values = |namespace: &str, text: &str| match &gathered.for_namespace(namespace)[&query(text)] {
        Reading::Series(series) => series.iter().map(|one| one.samples[0].value).collect::<Vec<_>>(),
        Reading::Failed(reason) => panic!("{reason}"),
    };
    assert_eq!(values("ns3", r#"a{espalier_dev_revision!=""}"#), [3.0, 0.0, -1.0], "its own, and what may be anyone's");
    assert_eq!(
        values("ns7", r#"a{espalier_dev_revision!=""}"#),
        [7.0, 7.0, 0.0, -1.0],
        "a gateway's series names the namespace in its backend"
    );
    assert_eq!(values("ns7", r#"a{x!="",job="legacy"}"#).len(), 204, "matchers of one's own may point anywhere");
    assert_eq!(gathered.for_namespace("ns3").len(), 2, "a namespace sees only what it asked");
    assert!(gathered.for_namespace("unknown").is_empty());
    assert!(Arc::ptr_eq(&gathered.for_namespace("ns3"), &gathered.for_namespace("ns3")));
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_once_per_gathering_until_it_is_back() {
    let down = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&down);
    let (server, seen) =
        serve(Duration::ZERO, move |_| if state.load(Ordering::Relaxed) { StatusCode::BAD_GATEWAY.into_response() } else { matrix("") })
            .await;
    let servers = Servers { at_once: 1, ..servers() };
    let names: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let asked = ask(&["ml"], &names.iter().map(String::as_str).collect::<Vec<_>>());
    let gather = async || {
        let before = lock(&seen).hits.len();
        let gathered = servers.gather(&server, &asked, instant(1_700_000_000), TimeDelta::seconds(20)).await;
        let failed = gathered.readings().values().filter(|reading| matches!(reading, Reading::Failed(_))).count();
        (lock(&seen).hits.len() - before, failed)
    };
    assert_eq!(gather().await, (4, 50), "gives up after a few");
    assert_eq!(gather().await, (1, 50), "known to be down: one probe");
    assert!(!servers.snapshots()[0].up);
    assert_eq!(servers.snapshots()[0].failed, 100);
    down.store(false, Ordering::Relaxed);
    assert_eq!(gather().await, (50, 0));
    assert!(servers.snapshots()[0].up);

    down.store(true, Ordering::Relaxed);
    let patient = Servers { rest: Duration::from_mins(1), ..self::servers() };
    for expected in [1, 0] {
        let before = lock(&seen).hits.len();
        patient.gather(&server, &ask(&["ml"], &["up"]), instant(1_700_000_000), TimeDelta::seconds(20)).await;
        assert_eq!(lock(&seen).hits.len() - before, expected, "no second try within the rest");
    }
}

#[tokio::test]
async fn one_query_that_always_fails_does_not_keep_the_others_away() {
    let (server, _) =
        serve(
            Duration::ZERO,
            |hit| {
                if hit.form["query"].starts_with("a_bad") { StatusCode::BAD_GATEWAY.into_response() } else { matrix("") }
            },
        )
        .await;
    let servers = Servers { at_once: 1, ..servers() };
    let asked = ask(&["ml"], &["a_bad", "good", "other"]);
    for _ in 0..3 {
        let gathered = servers.gather(&server, &asked, instant(1_700_000_000), TimeDelta::seconds(20)).await;
        let failed = gathered.readings().values().filter(|reading| matches!(reading, Reading::Failed(_))).count();
        assert_eq!(failed, 1);
        assert!(servers.snapshots()[0].up);
    }
}

#[tokio::test]
async fn probes_take_turns_so_that_one_bad_query_does_not_keep_a_server_down() {
    let down = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&down);
    let (server, _) = serve(Duration::ZERO, move |hit| {
        let bad = state.load(Ordering::Relaxed) || hit.form["query"].starts_with("a_bad");
        if bad { StatusCode::BAD_GATEWAY.into_response() } else { matrix("") }
    })
    .await;
    let servers = servers();
    let asked = ask(&["ml"], &["a_bad", "good", "other"]);
    let mut failed = Vec::new();
    for _ in 0..3 {
        let gathered = servers.gather(&server, &asked, instant(1_700_000_000), TimeDelta::seconds(20)).await;
        failed.push(gathered.readings().values().filter(|reading| matches!(reading, Reading::Failed(_))).count());
        down.store(false, Ordering::Relaxed);
    }
    assert_eq!(failed, [3, 3, 1]);
}

/// Samples every 10 s in the range that was asked for, its left edge included as older servers do.
fn history(hit: &Hit, width: usize) -> Response {
    let text = &hit.form["query"];
    let range: i64 = text[text.find('[').unwrap() + 1..].trim_end_matches("ms]").parse().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let end = hit.time() as i64;
    let times: Vec<i64> = (end - range / 1000..=end).filter(|second| second % 10 == 0).collect();
    let values: Vec<String> = times.iter().map(|second| format!(r#"[{second},"{second}"]"#)).collect();
    let padding = "x".repeat(width);
    matrix(&format!(r#"{{"metric":{{"pod":"a","padding":"{padding}"}},"values":[{}]}}"#, values.join(",")))
}

#[tokio::test]
async fn history_comes_in_pieces_that_fit_and_join_without_doubles() {
    let (server, seen) = serve(Duration::ZERO, |hit| history(hit, 10)).await;
    let (from, to) = (instant(1_700_000_000), instant(1_700_000_000 + 5 * 3600));
    let queries = BTreeSet::from([query("up")]);
    for (limit, pieces) in [(BODY_LIMIT, 3), (12_000, 6)] {
        lock(&seen).hits.clear();
        let readings = Servers { body_limit: limit, ..servers() }.history(&server, &queries, from, to).await;
        let Reading::Series(series) = &readings[&query("up")] else { panic!("{readings:?}") };
        assert_eq!(series.len(), 1);
        let at: Vec<i64> = series[0].samples.iter().map(|sample| sample.at).collect();
        let expected: Vec<i64> = (1_700_000_000..=1_700_000_000 + 5 * 3600).filter(|s| s % 10 == 0).map(|s| s * 1000).collect();
        assert_eq!(at, expected);
        assert_eq!(lock(&seen).hits.len(), pieces);
    }
}

#[tokio::test]
async fn history_with_a_hole_is_no_history() {
    let (server, _) = serve(Duration::ZERO, |hit| {
        if hit.time() > 1_700_010_000.0 { json(422, r#"{"status":"error","errorType":"execution","error":"no"}"#) } else { history(hit, 0) }
    })
    .await;
    let readings = servers().history(&server, &BTreeSet::from([query("up")]), instant(1_700_000_000), instant(1_700_018_000)).await;
    assert!(matches!(&readings[&query("up")], Reading::Failed(_)));
}

#[tokio::test]
async fn a_server_too_slow_for_the_past_is_still_asked_about_now() {
    let (server, seen) = serve(Duration::ZERO, |hit| {
        if hit.form["query"].contains("7200000ms") { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { matrix("") }
    })
    .await;
    let servers = Servers { rest: Duration::from_mins(1), ..servers() };
    let (from, to) = (instant(1_699_992_800), instant(1_700_000_000));
    let past = async || {
        let before = lock(&seen).hits.len();
        let readings = servers.history(&server, &BTreeSet::from([query("up")]), from, to).await;
        assert!(matches!(&readings[&query("up")], Reading::Failed(_)));
        lock(&seen).hits.len() - before
    };
    assert_eq!(past().await, 1);
    assert!(matches!(one(&servers, &server).await, Reading::Series(_)), "the past says nothing about now");
    assert!(servers.snapshots()[0].up);
    assert_eq!(past().await, 0, "nor does an answer about now say that the past can be read again at once");
}

#[tokio::test]
async fn now_does_not_wait_for_the_past() {
    let (server, seen) = serve(Duration::from_millis(300), |_| matrix("")).await;
    let servers = Servers { at_once: 1, past_at_once: 1, ..servers() };
    let queries = (0..20).map(|n| query(&format!("m{n}"))).collect();
    let past = servers.history(&server, &queries, instant(1_699_999_000), instant(1_700_000_000));
    let now = async {
        while lock(&seen).hits.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        one(&servers, &server).await;
        lock(&seen).hits.len()
    };
    let (_, sent) = futures::join!(past, now);
    assert!(sent < 10, "{sent} of 21 questions were sent before the answer about now came");
}
