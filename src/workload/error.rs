//! What can go wrong with a workload, each with a fixed word for metrics and a sentence for people.
//! Decides nothing; whether to try again follows from [`WorkloadError::is_permanent`].

use kube::Error;

/// Why a workload could not be built, written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// The template is of a kind that has no adapter.
    #[error("spec.workload.template is {found}; supported: apps/v1 Deployment")]
    Unsupported {
        /// API version and kind as found.
        found: String,
    },
    /// The template lacks something that every workload needs.
    #[error("{path} is {found}; expected {expected}")]
    Malformed {
        /// Where, as a path from the spec of the rollout.
        path: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The API server refuses the object as it is; only another spec helps.
    #[error("the API server refuses {object}: {message}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Its words.
        message: String,
    },
    /// An object of that name belongs to someone else and is left alone.
    #[error("{object} exists and belongs to {owner}; rename or delete it")]
    Foreign {
        /// Kind and name.
        object: String,
        /// Who seems to own it.
        owner: String,
    },
    /// Another revision is recorded under this name.
    #[error("{object} holds another content under the same name; its hash collides with this revision, change the spec slightly")]
    Collision {
        /// Kind and name.
        object: String,
    },
    /// A record cannot be read back.
    #[error("{object} cannot be read back: {message}")]
    Unreadable {
        /// Kind and name.
        object: String,
        /// What is wrong with it.
        message: String,
    },
    /// We may not do this.
    #[error("not allowed to {call} {object}: {message}")]
    Forbidden {
        /// What was tried.
        call: &'static str,
        /// Kind and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The object changed or went away meanwhile; looking again helps.
    #[error("{object} changed while it was written ({call}): {message}")]
    Conflict {
        /// What was tried.
        call: &'static str,
        /// Kind and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// No answer in time.
    #[error("no answer within {seconds} s to {call} {object}")]
    Timeout {
        /// What was tried.
        call: &'static str,
        /// Kind and name.
        object: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Any other failure of a call.
    #[error("cannot {call} {object}: {message}")]
    Failed {
        /// What was tried.
        call: &'static str,
        /// Kind and name.
        object: String,
        /// What happened.
        message: String,
    },
}

impl WorkloadError {
    /// A fixed word for metrics, events and conditions.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "UnsupportedWorkload",
            Self::Malformed { .. } => "MalformedTemplate",
            Self::Refused { .. } => "WorkloadRefused",
            Self::Foreign { .. } => "ForeignObject",
            Self::Collision { .. } => "RevisionCollision",
            Self::Unreadable { .. } => "RecordUnreadable",
            Self::Forbidden { .. } => "Forbidden",
            Self::Conflict { .. } => "Conflict",
            Self::Timeout { .. } => "Timeout",
            Self::Failed { .. } => "ApiFailure",
        }
    }

    /// Whether trying again is pointless until a person changes something.
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Unsupported { .. } | Self::Malformed { .. } | Self::Refused { .. } | Self::Foreign { .. } | Self::Collision { .. }
        )
    }

    /// What a failed call means.
    pub(super) fn of_call(call: &'static str, object: &str, error: &Error) -> Self {
        let object = object.to_owned();
        let Error::Api(status) = error else {
            return Self::Failed { call, object, message: error.to_string() };
        };
        let message = status.message.clone();
        match status.code {
            // 403 is also how quota, admission policies and namespaces that are going away answer; their words say so.
            403 => Self::Forbidden { call, object, message },
            404 | 409 => Self::Conflict { call, object, message },
            400 | 413 | 422 => Self::Refused { object, message },
            _ => Self::Failed { call, object, message: format!("{message} (HTTP {})", status.code) },
        }
    }
}
