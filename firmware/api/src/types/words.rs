//! The words that Docker writes for choices (`active`, `stop-first`).

use bramble_cluster::{
    Availability, DesiredState, EndpointMode, FailureAction, NodeState, PortProtocol, PublishMode,
    RestartCondition, Role, TaskState, UpdateOrder, UpdateState,
};

use super::InvalidField;

/// A choice that Docker writes as a word.
pub trait Word: Copy + PartialEq + Default + 'static {
    /// Every choice and its word.
    const WORDS: &'static [(Self, &'static str)];
}

/// The word of a choice.
pub fn word<T: Word>(choice: T) -> &'static str {
    T::WORDS.iter().find(|(candidate, _)| *candidate == choice).map_or("", |(_, word)| *word)
}

/// The choice of a word; the empty word is the default choice.
pub fn parse_word<T: Word>(field: &str, text: &str) -> Result<T, InvalidField> {
    if text.is_empty() {
        return Ok(T::default());
    }
    T::WORDS
        .iter()
        .find(|(_, word)| word.eq_ignore_ascii_case(text))
        .map(|(choice, _)| *choice)
        .ok_or_else(|| {
            let words: Vec<_> = T::WORDS.iter().map(|(_, word)| *word).collect();
            InvalidField::new(field, format!("`{text}` is none of {}", words.join(", ")))
        })
}

macro_rules! words {
    ($choice:ty: $($variant:ident = $word:literal),+ $(,)?) => {
        impl Word for $choice {
            const WORDS: &'static [(Self, &'static str)] = &[$((Self::$variant, $word)),+];
        }
    };
}

words!(Availability: Active = "active", Pause = "pause", Drain = "drain");
words!(Role: Worker = "worker", Manager = "manager");
words!(NodeState: Unknown = "unknown", Ready = "ready", Down = "down");
words!(FailureAction: Pause = "pause", Continue = "continue", Rollback = "rollback");
words!(UpdateOrder: StopFirst = "stop-first", StartFirst = "start-first");
words!(RestartCondition: Any = "any", OnFailure = "on-failure", None = "none");
words!(EndpointMode: Vip = "vip", Dnsrr = "dnsrr");
words!(PortProtocol: Tcp = "tcp", Udp = "udp", Sctp = "sctp");
words!(PublishMode: Ingress = "ingress", Host = "host");
words!(DesiredState: Running = "running", Shutdown = "shutdown", Remove = "remove");
words!(TaskState:
    New = "new", Pending = "pending", Assigned = "assigned", Preparing = "preparing",
    Starting = "starting", Running = "running", Complete = "complete", Shutdown = "shutdown",
    Failed = "failed", Rejected = "rejected", Orphaned = "orphaned",
);

/// The word of a roll-out's state.
pub fn update_state_word(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_word_reads_back<T: Word + std::fmt::Debug>() {
        for (choice, text) in T::WORDS {
            assert_eq!(word(*choice), *text);
            assert_eq!(parse_word::<T>("field", text), Ok(*choice));
        }
        assert_eq!(parse_word::<T>("field", ""), Ok(T::default()));
        let error = parse_word::<T>("Spec.Field", "bogus").expect_err("no such word");
        assert!(error.to_string().starts_with("invalid Spec.Field: `bogus` is none of "));
    }

    #[test]
    fn words_and_choices_correspond() {
        every_word_reads_back::<Availability>();
        every_word_reads_back::<Role>();
        every_word_reads_back::<NodeState>();
        every_word_reads_back::<FailureAction>();
        every_word_reads_back::<UpdateOrder>();
        every_word_reads_back::<RestartCondition>();
        every_word_reads_back::<EndpointMode>();
        every_word_reads_back::<PortProtocol>();
        every_word_reads_back::<PublishMode>();
        every_word_reads_back::<DesiredState>();
        every_word_reads_back::<TaskState>();
    }
}
