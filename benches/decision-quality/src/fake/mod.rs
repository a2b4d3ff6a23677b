//! A Prometheus as far as the operator can tell: the part of its query API that the operator speaks, over HTTP on this machine's loopback.
//! Answers range selectors with raw samples. Deliberately absent: functions, aggregation, instant vectors; asking for them is an error, as a defect here.

mod selector;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use selector::RangeSelector;
pub use store::Store;

/// What the server and the world that fills it share.
pub type Shared = Arc<Mutex<Store>>;

/// Serves `store` until the runtime ends; the address it listens on.
pub async fn serve(store: Shared) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let api = Router::new().route("/api/v1/query", post(query)).with_state(store);
    tokio::spawn(async move { axum::serve(listener, api).await });
    Ok(address)
}

async fn query(State(store): State<Shared>, body: Bytes) -> Response {
    match answer(&store, &body) {
        Ok(matrix) => json(StatusCode::OK, matrix),
        Err(problem) => {
            let error = serde_json::json!({"status": "error", "errorType": "bad_data", "error": problem});
            json(StatusCode::BAD_REQUEST, error.to_string())
        }
    }
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn answer(store: &Shared, body: &[u8]) -> Result<String, String> {
    let form = form(body)?;
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let query = field("query").ok_or("no parameter query")?;
    let time = field("time").ok_or("no parameter time")?;
    let end = milliseconds(time).ok_or_else(|| format!("cannot parse time {time:?}"))?;
    let selector = RangeSelector::parse(query)?;
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(store.matrix(&selector, end))
}

/// Unix seconds with decimals, as whole milliseconds.
fn milliseconds(text: &str) -> Option<i64> {
    let millis = (text.parse::<f64>().ok()? * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "far below what the integer holds")]
    let whole = millis as i64;
    (millis.abs() < 9.0e15).then_some(whole)
}

/// The pairs of an `application/x-www-form-urlencoded` body.
fn form(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not text")?;
    text.split('&')
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(key)?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |c: &u8| char::from(*c).to_digit(16).ok_or_else(|| format!("a broken escape in {text:?}"));
                u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| "a byte above 255")?
            }
            (b'%', _) => return Err(format!("a broken escape in {text:?}")),
            (plain, _) => *plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_clients_write_it() {
        let body = b"query=up%7Ba%21%3D%22%22%2Cb%3D%7E%22x%2By%26z%22%7D%5B20000ms%5D&time=1800000060.007";
        let pairs = form(body).unwrap();
        assert_eq!(pairs[0], ("query".to_owned(), r#"up{a!="",b=~"x+y&z"}[20000ms]"#.to_owned()));
        assert_eq!(milliseconds(&pairs[1].1), Some(1_800_000_060_007));
        assert!(form(b"query=%7").is_err() && form(b"query=%zz").is_err());
    }

    #[test]
    fn what_is_not_a_range_of_raw_samples_is_refused_with_words() {
        let store = Shared::default();
        let ask = |query: &str| answer(&store, format!("query={query}&time=1").as_bytes());
        assert!(ask("up[60s]").is_ok());
        for query in ["rate(up[60s])", "up", "sum(up)"] {
            let problem = ask(query).unwrap_err();
            assert!(problem.contains("not a range selector"), "{query}: {problem}");
        }
        assert_eq!(answer(&store, b"query=up"), Err("no parameter time".to_owned()));
    }
}
