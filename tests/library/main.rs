//! The library from outside: the real loop, real threads and sockets, and a scripted broker.

#[path = "../support/mod.rs"]
mod support;

mod awaiting;
mod bounds;
mod by_hand;
mod commands;
mod early;
mod ending;
mod errors;
mod examples;
mod fairness;
mod handshakes;
mod house;
mod idle;
mod inboxes;
mod kills;
mod leaving;
mod limits;
mod loop_thread;
mod malformed;
mod pace;
mod provider;
mod proxy_works;
mod queue;
mod quota;
mod rate;
mod reconnect;
mod recording;
// Sees the client's certificate by the TLS library of these systems.
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
mod renewal;
mod requests;
mod retained;
mod scale;
mod slow;
mod slow_links;
mod subscriptions;
mod suspects;
mod told5;
mod too_large;
mod unread;
mod version5;
mod violations;
mod watching;
