//! The agent's own voice: log lines on stderr, their level, their form.
//!
//! Plain lines carry journald's `<N>` priority prefix when systemd reads them;
//! JSON lines are for a log collector. The level changes live: by reload, or by
//! SIGUSR1 which turns debug on and off.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, time::FormatTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub level: LevelFilter,
    pub form: Form,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Json,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            level: LevelFilter::INFO,
            form: Form::Plain,
        }
    }
}

/// The level switch of the running process.
pub struct Telemetry {
    filter: reload::Handle<LevelFilter, Registry>,
    configured: Mutex<LevelFilter>,
}

impl Telemetry {
    /// Starts logging to stderr for the whole process. Call once; a second call
    /// leaves the first in place.
    pub fn start(settings: Settings) -> Telemetry {
        let (filter, handle) = reload::Layer::new(settings.level);
        let layer = match settings.form {
            Form::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_timer(Rfc3339)
                .with_writer(std::io::stderr)
                .boxed(),
            Form::Plain => tracing_subscriber::fmt::layer()
                .event_format(Plain::detect())
                .with_writer(std::io::stderr)
                .boxed(),
        };
        let subscriber = Registry::default().with(layer.with_filter(filter));
        // Fails only when a subscriber is set already, as in a second test of one process.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Telemetry {
            filter: handle,
            configured: Mutex::new(settings.level),
        }
    }

    /// Sets the configured level, as a reload does.
    pub fn set_level(&self, level: LevelFilter) {
        *self.lock() = level;
        let _ = self.filter.reload(level);
    }

    /// Between the configured level and DEBUG, as SIGUSR1 does. Returns the level now on.
    pub fn toggle_debug(&self) -> LevelFilter {
        let configured = *self.lock();
        let now = self.filter.clone_current().unwrap_or(configured);
        let next = if now == LevelFilter::DEBUG {
            configured
        } else {
            LevelFilter::DEBUG
        };
        let _ = self.filter.reload(next);
        next
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LevelFilter> {
        self.configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

struct Rfc3339;

impl FormatTime for Rfc3339 {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:.6}", jiff::Timestamp::now())
    }
}

/// `<6>message key=value` under journald, which adds its own time; else with a time stamp.
struct Plain {
    journald: bool,
}

impl Plain {
    /// systemd sets JOURNAL_STREAM for a stderr that it reads (systemd.exec).
    fn detect() -> Plain {
        let journald =
            std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal();
        Plain { journald }
    }
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = *event.metadata().level();
        if self.journald {
            write!(writer, "<{}>", priority(level))?;
        } else {
            Rfc3339.format_time(&mut writer)?;
            write!(writer, " {level:>5} ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// syslog priority, sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
