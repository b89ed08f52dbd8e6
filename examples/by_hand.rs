//! scripts/broker.sh -- cargo run --example by_hand
//!
//! Jobs that no crash may lose: two workers share an inbox, and a job is acknowledged when it is done. Of a program that
//! is killed in the middle of its work, the next one gets the jobs that were not done. JOBS is how many it publishes
//! first; with 0 it works on those of others until it is killed. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, thread};

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{ByHand, Client, Filter, Handle, Inbox, Publish, QoS};
use mqtt_connection_sharing::{Message, Unacknowledged};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let jobs = env::var("JOBS").map_or(Ok(10), |jobs| jobs.parse());
    broker::run("by-hand", |options| run(options, jobs?, stdout()))
}

pub(crate) fn run(options: Options, jobs: i64, out: impl Write + Send) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let inbox = handle.inbox_by_hand(10, ByHand::default());
    // It subscribes before the loop runs: the broker may have kept jobs, and sends them at once.
    let subscribed = handle.subscribe(&inbox, vec![Filter::new("jobs", QoS::AtLeastOnce)])?;
    let running = thread::spawn(move || agent.run());
    subscribed.wait().into_result()?;
    for number in 1..=jobs {
        let job = Publish::new("jobs", QoS::AtLeastOnce, number.to_string());
        handle.publish(job)?.wait().into_result()?;
    }
    let (out, left) = (Mutex::new(out), Mutex::new(jobs));
    let work = || work(&inbox, &handle, &out, &left);
    thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|worker| worker.join()))
        .into_iter()
        .try_for_each(|worked| worked.map_err(|_| "a worker panicked")?)?;
    Ok(running.join().map_err(|_| "the loop panicked")?.result?)
}

fn work(
    inbox: &Inbox<Unacknowledged>,
    handle: &Handle,
    out: &Mutex<impl Write>,
    left: &Mutex<i64>,
) -> Result<()> {
    let say = |job: &Message, what: &str| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        let job = String::from_utf8_lossy(job.payload());
        writeln!(out, "job {job} {what}")
    };
    for job in inbox {
        let job = job?;
        say(&job, "begun")?;
        // The work.
        thread::sleep(Duration::from_millis(5));
        if job.payload() == b"3" && job.attempts() == 1 {
            say(&job, "failed")?;
            // Dropped undone, it is offered again.
            continue;
        }
        say(&job, "done")?;
        job.done();
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        *left -= 1;
        if *left == 0 {
            drop(handle.terminate(TIME));
        }
    }
    Ok(())
}
