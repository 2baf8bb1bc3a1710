//! The guestbook's web page: reads messages from `redis-slave`, writes them to `redis-master`.
//!
//! An example of what runs inside a Pod, not a part of the product. It is one static program: it speaks HTTP, the
//! Redis protocol and DNS by itself, because a static program cannot load the C library's resolver.
//!
//! ```text
//! GET /          the page            POST /, POST /messages   appends (form field or JSON member `message`)
//! GET /messages  the list as JSON    GET /healthz             is the program there (Redis is not asked)
//! ```

mod app;
mod dns;
mod http;
mod page;
mod resp;

use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use app::App;

/// Where the page is served; `LISTEN` says otherwise.
const LISTEN: &str = "0.0.0.0:80";
/// Connections served at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;
/// How long one request may take from its first byte to the last of its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// Pause after a failed accept, so that a lack of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guestbook-frontend: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
async fn run() -> io::Result<()> {
    let address = env::var("LISTEN").unwrap_or_else(|_| LISTEN.to_owned());
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    let app = Arc::new(App::from_env());
    println!("guestbook-frontend: serving on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = serve(listener, app) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn serve(listener: TcpListener, app: Arc<App>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    // A client that is slow or gone is its own loss.
                    let _ = timeout(REQUEST_LIMIT, connection(stream, &app)).await;
                    drop(place);
                });
            }
            Err(error) => {
                eprintln!("guestbook-frontend: accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request, one answer, then the connection closes.
async fn connection(mut stream: TcpStream, app: &App) -> io::Result<()> {
    let Some(request) = http::read(&mut stream).await? else {
        return Ok(());
    };
    let response = match request {
        Ok(request) => {
            let response = app.answer(&request).await;
            println!("{} {} {}", request.method, request.path, response.status);
            response
        }
        Err(refusal) => refusal,
    };
    http::write(&mut stream, &response).await
}
