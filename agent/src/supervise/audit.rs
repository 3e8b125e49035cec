//! What the agent decided and why, as lines for the audit log.

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub container: String,
    /// The phase before, and the one after; the same where something was done
    /// to Docker within it.
    pub from: &'static str,
    pub to: &'static str,
    pub reason: String,
    pub actor: Actor,
}

/// Who had it happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The agent by its own rules.
    Agent,
    /// A command on the control socket.
    Operator,
    /// A config that changed.
    Config,
    /// Someone else on this host.
    Outside,
}

impl Actor {
    pub fn word(self) -> &'static str {
        match self {
            Actor::Agent => "agent",
            Actor::Operator => "operator",
            Actor::Config => "config",
            Actor::Outside => "outside",
        }
    }
}

/// Where records go. Cheap to clone; a record is never waited for.
#[derive(Clone, Default)]
pub struct Audit {}

impl Audit {
    pub fn record(&self, record: Record) {
        tracing::info!(
            container = record.container,
            from = record.from,
            to = record.to,
            reason = record.reason,
            actor = record.actor.word(),
            "container changes"
        );
    }
}
