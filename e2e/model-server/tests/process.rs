//! The server as a process: how it refuses to start, and how it leaves.

// Helpers outside the test functions are test code too.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn command(model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_espalier-model-server"));
    command.args(["--models-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/../models"), "--model", model]);
    command.args(["--listen", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--dcgm-port", "0"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends the process when a test fails half way.
struct Running {
    child: Child,
    http: String,
    metrics: String,
    dcgm: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(extra: &[&str]) -> Running {
    let mut child = command("oci://registry.example/digits/fp32").args(extra).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap().to_owned();
    let (http, metrics, dcgm) = (address("http="), address("metrics="), address("dcgm="));
    Running { child, http, metrics, dcgm }
}

fn request(address: &str, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn infer(address: &str) -> std::io::Result<String> {
    let data = vec!["0"; 64].join(",");
    let body = format!(r#"{{"inputs":[{{"name":"image","shape":[1,64],"datatype":"FP32","data":[{data}]}}]}}"#);
    request(address, "POST /v2/models/digits/infer", &body)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn other_bytes_than_the_digest_says_end_the_start() {
    let output = command(&format!("oci://registry.example/digits/fp32@sha256:{}", "0".repeat(64))).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("digest mismatch for 'oci://registry.example/digits/fp32@sha256:000"), "{words}");
}

#[test]
fn sigterm_drains_before_it_ends() {
    let mut server = start(&["--drain-delay-ms", "600", "--fault-latency-ms", "300"]);
    let ready = || request(&server.http, "GET /v2/health/ready", "").is_ok_and(|a| a.starts_with("HTTP/1.1 200"));
    wait_until("ready", ready);
    assert!(Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap().success());
    wait_until("not ready", || !ready());
    assert!(infer(&server.http).unwrap().starts_with("HTTP/1.1 200"), "a draining server still answers");
    let address = server.http.clone();
    std::thread::sleep(Duration::from_millis(200));
    let last = std::thread::spawn(move || infer(&address));
    assert!(server.child.wait().unwrap().success());
    assert!(last.join().unwrap().unwrap().starts_with("HTTP/1.1 200"), "a request in flight is answered");
    assert!(infer(&server.http).is_err(), "nobody listens any more");
}

#[test]
fn pages_of_metrics_say_what_they_are() {
    let server = start(&[]);
    for (address, family) in [(&server.metrics, "model_load_seconds"), (&server.dcgm, "DCGM_FI_DEV_POWER_USAGE")] {
        let page = request(address, "GET /metrics", "").unwrap();
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        assert!(page.contains(&format!("# TYPE {family} gauge")), "{page}");
    }
}

#[test]
fn the_crash_fault_ends_the_process_with_code_one() {
    let mut server = start(&[]);
    // The answer races with the end of the process.
    let _ = request(&server.metrics, "POST /admin/faults", r#"{"crash_now": true}"#);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
}
