//! Resolves the broker's name on a short-lived thread, one name at a time ([`Errand`]).
//!
//! The loop's thread starts and asks; a thread of its own looks up and calls back.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::link::errand::Errand;

/// The addresses of a name, or why there are none.
type Addresses = io::Result<Vec<SocketAddr>>;

type LookUp = Arc<dyn Fn(&str, u16) -> Addresses + Send + Sync>;

/// Resolves one name at a time, however often it is asked.
pub(crate) struct Resolver {
    look_up: LookUp,
    on_done: Arc<dyn Fn() + Send + Sync>,
    errand: Errand<Addresses>,
}

impl Resolver {
    /// A resolver that calls `on_done`, on its own thread, when [`Resolver::poll`] has a result.
    pub(crate) fn new(on_done: impl Fn() + Send + Sync + 'static) -> Self {
        Resolver {
            look_up: Arc::new(look_up),
            on_done: Arc::new(on_done),
            errand: Errand::new("resolver", Duration::ZERO),
        }
    }

    /// Has each name looked up in this way.
    #[cfg(test)]
    pub(crate) fn look_up_by(
        &mut self,
        look_up: impl Fn(&str, u16) -> Addresses + Send + Sync + 'static,
    ) {
        self.look_up = Arc::new(look_up);
    }

    /// Starts a resolution unless one is running. A result that an earlier attempt never took is too
    /// old, and is dropped.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(&mut self, host: &str, port: u16) -> io::Result<()> {
        let host = host.to_owned();
        let (look_up, on_done) = (Arc::clone(&self.look_up), Arc::clone(&self.on_done));
        let work = move || look_up(&host, port);
        self.errand.start(work, move || on_done())
    }

    /// The call that wakes the thread that polls.
    pub(crate) fn on_done(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::clone(&self.on_done)
    }

    /// Takes the result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Addresses> {
        let result = self.errand.poll()?;
        Some(result.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked"))))
    }
}

/// Asks the system.
fn look_up(host: &str, port: u16) -> Addresses {
    match zoned(host) {
        Some((address, zone)) => {
            let scope = scope_of(zone)?;
            Ok(vec![SocketAddrV6::new(address, port, 0, scope).into()])
        }
        None => (host, port).to_socket_addrs().map(Iterator::collect),
    }
}

/// An IPv6 address with a zone, such as `fe80::1%eth0`, in its two parts.
pub(crate) fn zoned(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (address, zone) = host.split_once('%')?;
    Some((address.parse().ok()?, zone))
}

/// The number of a network interface, given by its name or number.
fn scope_of(zone: &str) -> io::Result<u32> {
    // The standard library does not know the call for names. The resolver of the system does, and glibc's only
    // with a link-local address.
    let found = (format!("fe80::1%{zone}").as_str(), 0).to_socket_addrs();
    let found = found.map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        None => io::Error::new(
            error.kind(),
            format!("no network interface {zone}: {error}"),
        ),
    })?;
    let mut scopes = found.filter_map(|address| match address {
        SocketAddr::V6(address) => Some(address.scope_id()),
        SocketAddr::V4(_) => None,
    });
    scopes.next().ok_or(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    /// The name and number of an interface of this machine, with an address on it.
    #[cfg(target_os = "linux")]
    fn interfaces() -> Vec<(String, u32, Ipv6Addr)> {
        let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let interface = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let bits = u128::from_str_radix(words[0], 16).ok()?;
            let number = u32::from_str_radix(words[1], 16).ok()?;
            Some((words[5].to_owned(), number, Ipv6Addr::from(bits)))
        };
        table.lines().filter_map(interface).collect()
    }

    /// A real connection to each of this machine's IPv6 addresses, link-local ones among them, with its zone by name
    /// and by number.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_with_a_zone_is_reached_by_the_name_and_the_number_of_the_interface() {
        for (name, number, address) in &interfaces() {
            for zone in [name.clone(), number.to_string()] {
                let at = SocketAddrV6::new(*address, 0, 0, *number);
                let listener = TcpListener::bind(at).unwrap();
                let port = listener.local_addr().unwrap().port();
                let found = look_up(&format!("{address}%{zone}"), port).unwrap();
                assert_eq!(
                    found,
                    [SocketAddrV6::new(*address, port, 0, *number).into()]
                );
                let link = std::net::TcpStream::connect(found[0]).unwrap();
                drop((listener, link));
            }
        }
    }

    #[test]
    fn a_zone_is_looked_up_whichever_address_it_belongs_to() {
        for address in ["fe80::9", "::1", "2001:db8::1"] {
            let found = look_up(&format!("{address}%7"), 1).unwrap();
            let expected = SocketAddrV6::new(address.parse().unwrap(), 1, 0, 7);
            assert_eq!(found, [expected.into()]);
        }
        let error = look_up("fe80::1%nowhere0", 1).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no network interface nowhere0: "),
            "{error}"
        );
    }

    static LOOK_UPS: AtomicUsize = AtomicUsize::new(0);
    /// The look-ups wait for this.
    static GATE: Mutex<Option<Receiver<()>>> = Mutex::new(None);

    fn close_the_gate() -> Sender<()> {
        let (open, gate) = bounded(0);
        *GATE.lock().unwrap() = Some(gate);
        open
    }

    /// RECONNECT again and again gives each attempt up: a name server that does not answer must not
    /// cost a thread each time.
    #[test]
    fn one_name_is_resolved_at_a_time_for_whichever_attempt_is_the_last() {
        let (done, is_done) = unbounded();
        let mut resolver = Resolver::new(move || done.send(()).unwrap());
        resolver.look_up_by(|_, port| {
            let number = LOOK_UPS.fetch_add(1, Ordering::SeqCst);
            let gate = GATE.lock().unwrap().clone();
            let _ = gate.unwrap().recv();
            let port = port + u16::try_from(number).unwrap();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        });
        let start = |resolver: &mut Resolver| resolver.start("broker.example", 1000).unwrap();
        let open = close_the_gate();
        (0..100).for_each(|_| start(&mut resolver));
        assert!(resolver.poll().is_none());
        drop(open);
        is_done.recv_timeout(HANG).unwrap();
        let found = resolver.poll().unwrap().unwrap();
        assert_eq!(
            (found[0].port(), LOOK_UPS.load(Ordering::SeqCst)),
            (1000, 1)
        );
        assert!(resolver.poll().is_none(), "once");
        // A result that was never taken does not answer a later question.
        start(&mut resolver);
        is_done.recv_timeout(HANG).unwrap();
        start(&mut resolver);
        is_done.recv_timeout(HANG).unwrap();
        let found = resolver.poll().unwrap().unwrap();
        assert_eq!(
            (found[0].port(), LOOK_UPS.load(Ordering::SeqCst)),
            (1002, 3)
        );
    }
}
