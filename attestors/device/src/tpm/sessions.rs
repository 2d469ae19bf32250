//! Sessions: opened for one command, flushed whatever happens.

use tss_esapi::{
    Error,
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::{KeyHandle, ObjectHandle, SessionHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        session_handles::{AuthSession, PolicySession},
    },
    structures::SymmetricDefinition,
};

use super::{Connection, Failure};

type Sessions = (Option<AuthSession>, Option<AuthSession>, Option<AuthSession>);

impl Connection {
    /// Runs a command whose handles all take the empty password.
    pub(crate) fn with_passwords<T>(
        &mut self,
        count: usize,
        command: impl FnOnce(&mut tss_esapi::Context) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let password = Some(AuthSession::Password);
        let second = (count > 1).then_some(AuthSession::Password);
        self.with_sessions((password, second, None), command)
    }

    /// Runs a command with these sessions set, and none afterwards.
    pub(crate) fn with_sessions<T>(
        &mut self,
        sessions: Sessions,
        command: impl FnOnce(&mut tss_esapi::Context) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.context.set_sessions(sessions);
        let result = command(&mut self.context);
        self.context.clear_sessions();
        result
    }

    /// Runs `body` with a new policy session.
    pub(crate) fn with_policy<T>(
        &mut self,
        body: impl FnOnce(&mut Self, PolicySession) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let session = self.start(SessionType::Policy, None)?;
        let result = PolicySession::try_from(session)
            .map_err(|error| Failure::tss("policy session", error))
            .and_then(|policy| body(self, policy));
        self.end(session, result)
    }

    /// Runs `body` with a session that encrypts responses, salted to `key` so that nobody on the bus can follow.
    pub(crate) fn with_encryption<T>(
        &mut self,
        key: KeyHandle,
        body: impl FnOnce(&mut Self, AuthSession) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let session = self.start(SessionType::Hmac, Some(key))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_encrypt(true)
            .with_continue_session(true)
            .build();
        let result = self
            .context
            .tr_sess_set_attributes(session, attributes, mask)
            .map_err(|error| Failure::tss("encrypted session", error))
            .and_then(|()| body(self, session));
        self.end(session, result)
    }

    /// Runs a command that takes the authorization of a hierarchy: the empty password, or an HMAC session, so that an
    /// authorization that is not empty never crosses the bus. The session is salted to an endorsement key where there is
    /// one, so that whoever listens cannot try out authorizations either; a TPM that has none yet is about to get one.
    pub(crate) fn with_hierarchy<T>(
        &mut self,
        has_auth: bool,
        what: &'static str,
        command: impl FnOnce(&mut tss_esapi::Context) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        if !has_auth {
            return self
                .with_passwords(1, command)
                .map_err(|error| Failure::tss(what, error));
        }
        let salt = self.any_endorsement()?;
        let session = self.start(SessionType::Hmac, salt)?;
        let result = self
            .with_sessions((Some(session), None, None), command)
            .map_err(|error| Failure::tss(what, error));
        self.end(session, result)
    }

    /// A persistent key that a session is salted to takes a slot while the command runs.
    fn start(&mut self, kind: SessionType, salt: Option<KeyHandle>) -> Result<AuthSession, Failure> {
        self.with_room("session", &[], |this| {
            this.context.start_auth_session(
                salt,
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })?
        .ok_or_else(|| Failure::refused("the TPM gave no session"))
    }

    /// Flushes the session; the result of what it was for counts more than that of the flush.
    fn end<T>(&mut self, session: AuthSession, result: Result<T, Failure>) -> Result<T, Failure> {
        self.context.clear_sessions();
        let handle = ObjectHandle::from(SessionHandle::from(session));
        let flushed = self
            .context
            .flush_context(handle)
            .map_err(|error| Failure::tss("flush", error));
        let value = result?;
        flushed?;
        Ok(value)
    }
}
