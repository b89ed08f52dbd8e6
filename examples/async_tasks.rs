//! scripts/broker.sh -- cargo run --example async_tasks
//!
//! Tasks of an async program share the connection, whose loop has a thread of its own. Any executor will do, tokio's
//! here. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, Filter, Handle, Inbox, Publish, QoS, WhenFull};
use tokio::{runtime, time};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROOMS: usize = 5;
const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    broker::run("async-tasks", |options| {
        let executor = runtime::Builder::new_current_thread().enable_time().build();
        executor?.block_on(run(options))
    })
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let connection = thread::spawn(move || agent.run());
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("rooms/+/light", QoS::AtLeastOnce)];
    // The first future waits for room in the queue, the second for the broker's answer.
    let subscribe = handle.subscribe_async(&inbox, filters);
    subscribe.await?.await.into_result()?;
    let publish = |room| tokio::spawn(publish(handle.clone(), room));
    let mut tasks: Vec<_> = (1..=ROOMS).map(publish).collect();
    tasks.push(tokio::spawn(receive(inbox)));
    for task in tasks {
        task.await??;
    }
    handle.terminate(TIME).await.into_result()?;
    let ended = connection.join().map_err(|_| "the loop panicked")?;
    Ok(ended.result?)
}

async fn publish(handle: Handle, room: usize) -> Result<()> {
    let message = Publish::new(format!("rooms/{room}/light"), QoS::AtLeastOnce, "on");
    handle.publish_async(message).await?.await.into_result()?;
    println!("room {room}: acknowledged");
    Ok(())
}

async fn receive(inbox: Inbox) -> Result<()> {
    let mut received = 0;
    while received < ROOMS {
        // A future that a time-out drops takes no message with it.
        match time::timeout(TIME, inbox.recv_async()).await? {
            Ok(message) => {
                received += 1;
                println!("received {}", message.topic());
            }
            Err(end) if end.is_end() => return Err(end.into()),
            Err(problem) => println!("{problem}"),
        }
    }
    Ok(())
}
