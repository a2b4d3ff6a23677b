//! The open loop: sends requests at the asked rate whether or not earlier ones were answered, and true labels after their delay.
//! Bounded in everything: requests in flight, labels waiting, time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::answers::Answers;
use crate::chance::{Chance, mix};
use crate::cli::{Args, Arrivals, FeedbackMode};
use crate::client::Client;
use crate::digits::{self, Digit};
use crate::tally::{Asked, Feedback, Report, RunFacts, Seen, Tally};
use crate::users::Users;

/// Lag behind the schedule after which requests are skipped instead of sent in a burst.
const MAX_LAG: Duration = Duration::from_secs(1);
/// True labels that may wait at a time.
const MAX_LABELS: usize = 100_000;
/// After the end of sending, requests and labels still under way get at most this long.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What must change together.
struct Books {
    tally: Tally,
    users: Users,
    chance: Chance,
    next_id: u64,
}

/// A run: its settings, its books and its switches.
pub struct Run {
    args: Args,
    client: Client,
    digits: Vec<Digit>,
    books: Mutex<Books>,
    answers: Option<Answers>,
    rate: watch::Sender<f64>,
    stop: watch::Sender<bool>,
    room: Arc<Semaphore>,
    labels: Arc<Semaphore>,
    began: Instant,
    started: Duration,
    nonce: u64,
}

impl Run {
    /// A run that has not started to send.
    pub fn new(args: Args) -> anyhow::Result<Arc<Self>> {
        let timeout = Duration::from_millis(args.timeout_ms);
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        // Ids must differ between runs with the same seed, or one run's labels would meet another run's predictions.
        let nonce = mix(u64::try_from(started.as_nanos() % u128::from(u64::MAX))? ^ (u64::from(std::process::id()) << 32));
        let books = Books {
            tally: Tally::default(),
            users: Users::new(args.users, args.alphabet, args.seed, args.regions.clone()),
            chance: Chance::new(args.seed),
            next_id: 0,
        };
        let answers = match &args.answers {
            Some(path) => Some(Answers::create(path).with_context(|| format!("cannot write {}", path.display()))?),
            None => None,
        };
        Ok(Arc::new(Self {
            answers,
            client: Client::new(&args.url, args.host.as_deref(), &args.model, &args.user_header, timeout)?,
            digits: digits::load(args.data.as_deref())?,
            books: Mutex::new(books),
            rate: watch::Sender::new(args.rps),
            stop: watch::Sender::new(false),
            room: Arc::new(Semaphore::new(args.concurrency)),
            labels: Arc::new(Semaphore::new(MAX_LABELS)),
            began: Instant::now(),
            started,
            nonce,
            args,
        }))
    }

    /// Sends until stopped or out of time, then waits a little for what is under way.
    pub async fn send(self: &Arc<Self>) {
        let limit = self.args.duration.unwrap_or(self.args.max_duration).min(self.args.max_duration);
        let end = Instant::now() + limit;
        let (mut rate, mut stop) = (self.rate.subscribe(), self.stop.subscribe());
        let mut next = Instant::now();
        while !*stop.borrow() {
            let rps = *rate.borrow_and_update();
            let wake = if rps > 0.0 { next.min(end) } else { end };
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                _ = rate.changed() => { next = Instant::now(); continue; }
                _ = stop.changed() => continue,
            }
            let now = Instant::now();
            if now >= end {
                break;
            }
            while next <= now {
                next += self.gap(rps);
                if now.saturating_duration_since(next) > MAX_LAG {
                    self.skip();
                } else {
                    self.fire();
                }
            }
        }
        self.stop();
        self.settle().await;
    }

    /// Ends the sending.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when the sending is to end.
    pub async fn stopped(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Changes the rate from now on.
    pub fn set_rate(&self, rps: f64) {
        self.rate.send_replace(rps);
    }

    /// Starts a new phase.
    pub fn mark(&self, name: String) {
        let at_s = self.elapsed();
        self.books().tally.mark(name, at_s);
    }

    /// The report as of now.
    pub fn report(&self, finished: bool) -> Report {
        let run =
            RunFacts { started_unix_ms: self.started.as_millis(), elapsed_s: self.elapsed(), target_rps: *self.rate.borrow(), finished };
        self.books().tally.report(run)
    }

    /// Hands the lines of answers to the system. Fails when the disk does.
    pub fn flush_answers(&self) -> anyhow::Result<()> {
        self.answers.as_ref().map_or(Ok(()), Answers::flush).context("cannot write the answers")
    }

    /// Whether any request got an HTTP answer.
    pub fn was_answered(&self) -> bool {
        self.books().tally.answered() > 0
    }

    fn elapsed(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gap(&self, rps: f64) -> Duration {
        let mean = 1.0 / rps.max(0.001);
        match self.args.arrivals {
            Arrivals::Uniform => Duration::from_secs_f64(mean),
            Arrivals::Poisson => Duration::from_secs_f64(-mean * (1.0 - self.books().chance.share()).ln()),
        }
    }

    fn skip(&self) {
        let mut books = self.books();
        let phase = books.tally.phase();
        books.tally.skipped(phase, 1);
    }

    /// Starts one request, or counts it as skipped when there is no room or no idle user.
    fn fire(self: &Arc<Self>) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return self.skip() };
        let mut guard = self.books();
        let books = &mut *guard;
        let picked = books.users.pick(self.args.no_id_fraction, &mut books.chance);
        let digit = books.chance.index(self.digits.len());
        let (Some(sender), Some(digit)) = (picked, self.digits.get(digit).cloned()) else {
            drop(guard);
            return self.skip();
        };
        books.next_id += 1;
        let id = format!("{:016x}{:016x}", self.nonce, mix(self.nonce.wrapping_add(books.next_id)));
        let labelled = books.chance.share() < self.args.feedback_fraction;
        let asked = Asked { user: sender.user, phase: books.tally.phase(), label: digit.label, teacher: digit.teacher };
        books.tally.sent(asked.phase);
        drop(guard);

        let run = Arc::clone(self);
        tokio::spawn(async move {
            let seen = run.client.infer(&id, &sender, &digit).await;
            let at_s = run.elapsed();
            run.write_down(&seen);
            {
                let mut guard = run.books();
                let books = &mut *guard;
                books.tally.seen(asked, &seen, at_s, &books.users);
                books.users.release(sender.user);
            }
            drop(room);
            if labelled && seen.label.is_some() {
                run.label(&id, asked, &seen).await;
            }
        });
    }

    /// A judge that misses a line would take users for spared who were not.
    fn write_down(&self, seen: &Seen) {
        let Some(answers) = &self.answers else { return };
        if let Err(error) = answers.add(self.started + self.began.elapsed(), seen) {
            eprintln!("cannot write the answers, so the run ends: {error}");
            self.stop();
        }
    }

    /// Sends the true label of an answered request after its delay.
    async fn label(&self, id: &str, asked: Asked, seen: &Seen) {
        let server = match self.args.feedback {
            FeedbackMode::Off => return,
            FeedbackMode::Gateway => None,
            FeedbackMode::Direct => Some(seen.served_by.as_deref()),
        };
        let place = self.labels.try_acquire();
        let result = match (place.is_ok(), server) {
            (true, None) => self.late_label(id, asked, None, seen.revision.as_deref()).await,
            (true, Some(Some(server))) => self.late_label(id, asked, Some(server), None).await,
            // Too many wait already, or the answer did not say who gave it.
            (false, _) | (true, Some(None)) => Feedback::Failed,
        };
        self.books().tally.feedback(asked.phase, seen.revision.as_deref(), result);
    }

    async fn late_label(&self, id: &str, asked: Asked, server: Option<&str>, revision: Option<&str>) -> Feedback {
        tokio::time::sleep(Duration::from_millis(self.args.feedback_delay_ms)).await;
        self.client.feedback(id, asked.label, server, revision).await
    }

    async fn settle(&self) {
        let end = Instant::now() + LAST_ANSWERS;
        let all = u32::try_from(self.args.concurrency).unwrap_or(u32::MAX);
        // A request that outlasts this is not in the report, and its timeout would not be either.
        let _ = tokio::time::timeout_at(end, self.room.acquire_many(all)).await;
        // A request gives its room back before its label takes a place.
        tokio::task::yield_now().await;
        let places = u32::try_from(MAX_LABELS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout_at(end, self.labels.acquire_many(places)).await;
    }
}
