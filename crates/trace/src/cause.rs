//! What a second of a process can have gone into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What a second of a process went into. Each second has exactly one cause, and [`Cause::Compute`] is one of them,
        /// so that the shares of a run add up to the whole.
        ///
        /// [`Cause::name`] is what stands in JSON, in reports and in documentation; names do not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Cause {
            /// Every cause, in the order in which reports list them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What the documentation says of each, in the same order.
            #[cfg(test)]
            pub(crate) const DOCS: &[&str] = &[$(concat!($($doc),+)),+];

            /// The cause's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

causes! {
    /// The program's own work: where the time should go.
    Compute = "compute",
    /// Creating processes, imports, initialisers.
    Startup = "startup",
    /// Pickling and unpickling.
    Serialize = "serialize",
    /// Copying bytes through pipes and sockets.
    Transfer = "transfer",
    /// Waiting for queue locks and feeder threads while there is work.
    QueueContention = "queue_contention",
    /// Round trips to a manager.
    Rpc = "rpc",
    /// Dispatch of tasks that are too small to carry it.
    Granularity = "granularity",
    /// Workers idle because another holds the rest of the work.
    Imbalance = "imbalance",
    /// Runnable but not running: more threads than cores.
    Oversubscription = "oversubscription",
    /// Workers idle because the parent produces, collects or aggregates.
    SerialFraction = "serial_fraction",
    /// Threads of one process waiting for its interpreter's lock.
    Gil = "gil",
    /// Tasks asleep or in blocking input and output.
    IoWait = "io_wait",
    /// Page faults, copy-on-write copies, copies for each worker.
    Memory = "memory",
    /// The program's shape lets only one worker run at a time.
    NotParallel = "not_parallel",
    /// Nothing is wrong: it pays as it is. A verdict on a run; no second has this cause.
    None = "none",
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no cause's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCause(pub String);

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the name of a cause; the causes are", self.0)?;
        Cause::ALL.iter().try_for_each(|cause| write!(f, " {cause}"))
    }
}

impl std::error::Error for UnknownCause {}

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|cause| cause.name() == name).ok_or_else(|| UnknownCause(name.to_owned()))
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Cause {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cause".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|cause| cause.name()).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for cause in Cause::ALL {
            assert_eq!(cause.name().parse(), Ok(*cause));
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = "network".parse::<Cause>().unwrap_err().to_string();
        assert!(error.contains("\"network\"") && error.contains("serial_fraction"), "{error}");
    }
}
