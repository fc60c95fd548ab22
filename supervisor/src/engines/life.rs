//! One worker's life, from its start, or from where an earlier supervisor left
//! it, to its collected exit status.

use std::time::Duration;

use engine_api::protocol::{FromWorker, PROTOCOL_VERSION, Ready, ToWorker};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::connection::{self, Broken, Connection, Frames, encode};
use super::process::Process;
use super::watch::{self, LoadWatch};
use super::{
    ADOPTION_TIMEOUT, Cause, DRAIN_GRACE, Death, HELLO_TIMEOUT, LifeId, Order, Spec, WorkerEvent,
};
use crate::systemd::keeper::LeftWorker;

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
    left: Option<LeftWorker>,
    spec: Spec,
    life: LifeId,
    mut orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<(LifeId, WorkerEvent)>,
) {
    let teller = Teller { life, events };
    let adopted = left.is_some();
    let process = match left {
        Some(left) => Process::adopt(left, spec.keeper).map_err(Cause::from),
        None => Process::spawn(&spec.worker, spec.keeper).map_err(Cause::from),
    };
    let death = match process {
        Err(cause) => Death { cause, exit: None },
        Ok(process) => {
            let pid = process.pid();
            let span = tracing::info_span!("engine", pid);
            teller.tell(WorkerEvent::Spawned { pid }).await;
            run(process, adopted, &spec, &mut orders, &teller).instrument(span).await
        }
    };
    teller.tell(WorkerEvent::Ended(death)).await;
}

async fn run(
    process: Process,
    adopted: bool,
    spec: &Spec,
    orders: &mut mpsc::Receiver<Order>,
    teller: &Teller,
) -> Death {
    match start(process, adopted, spec, orders, teller).await {
        Ok(serving) => serving.serve(orders, teller).await,
        Err(death) if adopted => death.not_adopted(),
        Err(death) => death,
    }
}

async fn start(
    process: Process,
    adopted: bool,
    spec: &Spec,
    orders: &mut mpsc::Receiver<Order>,
    teller: &Teller,
) -> Result<Serving, Death> {
    let spawned = match process.connect() {
        Ok(socket) => Spawned::new(process, socket, adopted),
        // It is gone, or has not read for long.
        Err(_) => return Err(end(process, Broken::Closed.into()).await),
    };
    let connected = spawned.connect(orders).await?;
    connected.load(spec, orders, teller).await
}

impl Death {
    /// The same of a worker that was to be taken over.
    fn not_adopted(self) -> Self {
        match self.cause {
            Cause::Left | Cause::Drained { .. } | Cause::Killed(_) => self,
            cause => Self { cause: Cause::NotAdopted(Box::new(cause)), ..self },
        }
    }
}

/// The process runs; it has not spoken yet.
struct Spawned {
    process: Process,
    frames: Frames,
    socket: OwnedWriteHalf,
    /// Another supervisor started it.
    adopted: bool,
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
    fn new(process: Process, socket: UnixStream, adopted: bool) -> Self {
        let (reading, socket) = socket.into_split();
        Self { process, frames: Frames::new(reading), socket, adopted }
    }

    async fn connect(mut self, orders: &mut mpsc::Receiver<Order>) -> Result<Connected, Death> {
        let bound = if self.adopted { ADOPTION_TIMEOUT } else { HELLO_TIMEOUT };
        let deadline = Instant::now() + bound;
        let cause = match self.hear(deadline, orders).await {
            Ok(FromWorker::Hello { protocol: PROTOCOL_VERSION, .. }) => return Ok(Connected(self)),
            Ok(FromWorker::Hello { protocol, .. }) => Cause::Version { theirs: protocol },
            Ok(_) => unexpected("anything but a hello as the first frame"),
            Err(Silence::Deadline) => Cause::NoHello { within: bound },
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
            Ok(ready) => Ok(worker.into_serving(ready, spec, teller).await),
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
        let begun = Instant::now();
        let mut bound = if self.adopted { ADOPTION_TIMEOUT } else { spec.load_timeout };
        let mut watch = LoadWatch::new(self.process.pid(), spec.measured_load);
        loop {
            let heard = tokio::select! {
                heard = self.hear(begun + bound, orders) => heard,
                stall = watch.until_stalled() => return Err(stall.into()),
            };
            match heard {
                Ok(FromWorker::Loading { fraction }) => {
                    bound = spec.load_timeout;
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
                    return Err(Cause::LoadTimeout { after: bound });
                }
                Err(Silence::Cause(cause)) => return Err(cause),
            }
        }
    }

    async fn into_serving(self, ready: Box<Ready>, spec: &Spec, teller: &Teller) -> Serving {
        let speeds = spec.speeds.clone().with_steps_of(ready.largest_step);
        let (connection, frames) = Connection::new(speeds);
        connection.routes().set_limits(spec.load.limits);
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
    let cause = match cause {
        Cause::Left if process.is_stopped() => {
            Cause::Killed("it was stopped, and would have heard nothing of its next supervisor")
        }
        cause => cause,
    };
    let grace = match &cause {
        Cause::Left => {
            process.leave();
            return Death { cause, exit: None };
        }
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
        Some(Order::Leave) => Cause::Left,
        Some(Order::Kill(why)) => Cause::Killed(why),
        None => Cause::Killed("the supervisor is gone"),
    }
}

fn unexpected(what: &str) -> Cause {
    Cause::Broken(Broken::Protocol(what.to_owned()))
}
