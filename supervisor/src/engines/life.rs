//! One worker's life, from its start to its collected exit status.

use std::time::Duration;

use engine_api::protocol::{FromWorker, PROTOCOL_VERSION, Ready, ToWorker};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::connection::{self, Broken, Connection, Frames, encode};
use super::process::Process;
use super::watch::{self, LoadWatch};
use super::watchdog::Speeds;
use super::{Cause, DRAIN_GRACE, Death, HELLO_TIMEOUT, LifeId, Order, Spec, WorkerEvent};

/// How long a worker that closed its socket may take to exit by itself, so
/// that its own exit status is seen and not our signal.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// Where a life tells what happens.
struct Teller {
    life: LifeId,
    events: mpsc::Sender<(LifeId, WorkerEvent)>,
}

impl Teller {
    async fn tell(&self, event: WorkerEvent) {
        // Nobody listens only while the process ends.
        let _ = self.events.send((self.life, event)).await;
    }
}

/// Runs a whole life.
pub(super) async fn live(
    spec: Spec,
    life: LifeId,
    mut orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<(LifeId, WorkerEvent)>,
) {
    let teller = Teller { life, events };
    let death = match Spawned::start(&spec) {
        Err(cause) => Death { cause, exit: None },
        Ok(spawned) => {
            let pid = spawned.process.pid();
            let span = tracing::info_span!("engine", pid);
            teller.tell(WorkerEvent::Spawned { pid }).await;
            run(spawned, &spec, &mut orders, &teller).instrument(span).await
        }
    };
    teller.tell(WorkerEvent::Ended(death)).await;
}

async fn run(
    spawned: Spawned,
    spec: &Spec,
    orders: &mut mpsc::Receiver<Order>,
    teller: &Teller,
) -> Death {
    let connected = match spawned.connect(orders).await {
        Ok(connected) => connected,
        Err(death) => return death,
    };
    match connected.load(spec, orders, teller).await {
        Ok(serving) => serving.serve(orders, teller).await,
        Err(death) => death,
    }
}

/// The process runs; it has not spoken yet.
struct Spawned {
    process: Process,
    frames: Frames,
    socket: OwnedWriteHalf,
}

/// The worker speaks our protocol; it has no engine yet.
struct Connected(Spawned);

/// The worker takes requests.
struct Serving {
    process: Process,
    frames: Frames,
    connection: Connection,
}

impl Spawned {
    fn start(spec: &Spec) -> Result<Self, Cause> {
        let (process, socket) = Process::spawn(&spec.worker)?;
        let (reading, socket) = socket.into_split();
        Ok(Self { process, frames: Frames::new(reading), socket })
    }

    async fn connect(mut self, orders: &mut mpsc::Receiver<Order>) -> Result<Connected, Death> {
        let deadline = Instant::now() + HELLO_TIMEOUT;
        let cause = match self.hear(deadline, orders).await {
            Ok(FromWorker::Hello { protocol: PROTOCOL_VERSION, .. }) => return Ok(Connected(self)),
            Ok(FromWorker::Hello { protocol, .. }) => Cause::Version { theirs: protocol },
            Ok(_) => unexpected("anything but a hello as the first frame"),
            Err(Silence::Deadline) => Cause::NoHello,
            Err(Silence::Cause(cause)) => cause,
        };
        Err(self.die(cause).await)
    }

    /// The next message, unless the deadline, an order or the end comes first.
    async fn hear(
        &mut self,
        deadline: Instant,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<FromWorker, Silence> {
        tokio::select! {
            message = timeout_at(deadline, self.frames.next()) => match message {
                Ok(message) => message.map_err(|broken| Silence::Cause(broken.into())),
                Err(_) => Err(Silence::Deadline),
            },
            // Nothing runs before the worker is ready, so every order ends it.
            order = orders.recv() => Err(Silence::Cause(ended_by(order))),
        }
    }

    async fn die(self, cause: Cause) -> Death {
        end(self.process, cause).await
    }
}

enum Silence {
    Deadline,
    Cause(Cause),
}

impl Connected {
    async fn load(
        self,
        spec: &Spec,
        orders: &mut mpsc::Receiver<Order>,
        teller: &Teller,
    ) -> Result<Serving, Death> {
        let Self(mut worker) = self;
        match worker.ask_to_load(spec, orders, teller).await {
            Ok(ready) => Ok(worker.into_serving(ready, spec.speeds.clone(), teller).await),
            Err(cause) => Err(worker.die(cause).await),
        }
    }
}

impl Spawned {
    async fn ask_to_load(
        &mut self,
        spec: &Spec,
        orders: &mut mpsc::Receiver<Order>,
        teller: &Teller,
    ) -> Result<Box<Ready>, Cause> {
        let encoded = encode(&ToWorker::Load(spec.load.clone())).map_err(Broken::Garbage)?;
        // One small frame: it fits the socket's buffer.
        self.socket.write_all(&encoded).await.map_err(|_| Broken::Closed)?;
        let deadline = Instant::now() + spec.load_timeout;
        let mut watch = LoadWatch::new(self.process.pid(), spec.measured_load);
        loop {
            let heard = tokio::select! {
                heard = self.hear(deadline, orders) => heard,
                stall = watch.until_stalled() => return Err(stall.into()),
            };
            match heard {
                Ok(FromWorker::Loading { fraction }) => {
                    watch.got_on();
                    teller.tell(WorkerEvent::Loading { fraction }).await;
                }
                Ok(FromWorker::Ready(ready)) => return Ok(ready),
                Ok(FromWorker::LoadFailed { reason }) => return Err(Cause::LoadFailed { reason }),
                Ok(FromWorker::Heartbeat(heartbeat)) => {
                    teller.tell(WorkerEvent::Heartbeat(heartbeat)).await;
                }
                Ok(_) => return Err(unexpected("an answer before it was ready")),
                Err(Silence::Deadline) => {
                    return Err(Cause::LoadTimeout { after: spec.load_timeout });
                }
                Err(Silence::Cause(cause)) => return Err(cause),
            }
        }
    }

    async fn into_serving(self, ready: Box<Ready>, speeds: Speeds, teller: &Teller) -> Serving {
        let (connection, frames) = Connection::new(speeds);
        tokio::spawn(connection::write(self.socket, frames));
        teller.tell(WorkerEvent::Ready { ready, connection: connection.clone() }).await;
        Serving { process: self.process, frames: self.frames, connection }
    }
}

impl Serving {
    async fn serve(mut self, orders: &mut mpsc::Receiver<Order>, teller: &Teller) -> Death {
        let routes = self.connection.routes();
        let serve = connection::serve(&mut self.frames, &routes, teller.life, &teller.events);
        tokio::pin!(serve);
        let cause = tokio::select! {
            broken = &mut serve => Cause::Broken(broken),
            stall = watch::until_stalled(self.process.pid(), &routes) => stall.into(),
            order = orders.recv() => {
                if order == Some(Order::Drain) && self.connection.drain().is_ok() {
                    tokio::select! {
                        closed = timeout(DRAIN_GRACE, &mut serve) => {
                            Cause::Drained { exits: closed.is_ok() }
                        }
                        order = orders.recv() => ended_by(order),
                    }
                } else {
                    ended_by(order)
                }
            }
        };
        end(self.process, cause).await
    }
}

/// Ends the process, at once unless it is about to exit by itself.
async fn end(process: Process, cause: Cause) -> Death {
    let grace = match &cause {
        Cause::Broken(Broken::Closed)
        | Cause::LoadFailed { .. }
        | Cause::Drained { exits: true } => EXIT_GRACE,
        _ => Duration::ZERO,
    };
    Death { exit: Some(process.end(grace).await), cause }
}

fn ended_by(order: Option<Order>) -> Cause {
    match order {
        Some(Order::Drain) => Cause::Drained { exits: false },
        Some(Order::Kill(why)) => Cause::Killed(why),
        None => Cause::Killed("the supervisor is gone"),
    }
}

fn unexpected(what: &str) -> Cause {
    Cause::Broken(Broken::Protocol(what.to_owned()))
}
