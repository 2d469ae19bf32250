-- Hosts: who may attest, and how it stands with them. Times are seconds since the epoch.
CREATE TABLE hosts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('enrolled', 'attested', 'refused', 'suspect', 'silent', 'evicted')),
    enrolled_at INTEGER NOT NULL,
    last_attested INTEGER,
    reason TEXT,
    refusal TEXT,
    -- One overwritten note about attempts that could not be authenticated: the commonest first-day failure.
    note TEXT,
    note_at INTEGER,
    -- What policies that only observe would have done at its last attestation; empty where they agree.
    observed TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX hosts_by_attestation ON hosts (state, last_attested);

CREATE TABLE endorsements (
    digest BLOB PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (id),
    by_certificate INTEGER NOT NULL
) STRICT;
CREATE INDEX endorsements_by_host ON endorsements (host);

-- Attestation keys that a host of ours has activated. The record names the endorsement key behind it.
CREATE TABLE attestation_keys (
    name BLOB PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (id),
    endorsement BLOB NOT NULL,
    public BLOB NOT NULL,
    voucher TEXT,
    -- Counters as they were last seen in authentic evidence; the clock in milliseconds.
    reset_count INTEGER NOT NULL,
    clock INTEGER NOT NULL,
    evidence BLOB NOT NULL,
    activated_at INTEGER NOT NULL,
    -- When the counters were seen.
    seen_at INTEGER NOT NULL
) STRICT;
CREATE INDEX attestation_keys_by_host ON attestation_keys (host);

-- Keys that were certified to be in a host's device. A renewal stands on that, in the same boot, until what was issued for
-- the key has ended.
CREATE TABLE certified_keys (
    digest BLOB PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (id),
    attestation BLOB NOT NULL,
    reset_count INTEGER NOT NULL,
    spki BLOB NOT NULL,
    name BLOB NOT NULL,
    area BLOB NOT NULL,
    evidence BLOB NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX certified_keys_by_name ON certified_keys (host, name);
CREATE INDEX certified_keys_by_end ON certified_keys (until);

-- The last authenticated evidence of each host, also when it was refused.
CREATE TABLE evidence (
    host TEXT PRIMARY KEY REFERENCES hosts (id),
    at INTEGER NOT NULL,
    evidence BLOB NOT NULL,
    log BLOB NOT NULL,
    -- Reference values as this boot was, where its log explained the quote.
    reference TEXT,
    -- What the appraisal established, JSON.
    claims TEXT NOT NULL
) STRICT;

-- How far the list of what a host's kernel measured has been appraised, and what its appraiser has to remember of it.
CREATE TABLE runtime_lists (
    host TEXT PRIMARY KEY REFERENCES hosts (id),
    offset INTEGER NOT NULL,
    -- Whether every file that was not known is in the state.
    complete INTEGER NOT NULL,
    -- The lists of known files that it was held against, JSON.
    lists TEXT NOT NULL,
    state BLOB NOT NULL
) STRICT;

-- Challenges that were answered: consumption is a row written with what it led to.
CREATE TABLE consumed (
    challenge BLOB PRIMARY KEY,
    message BLOB NOT NULL,
    host TEXT NOT NULL,
    status INTEGER NOT NULL,
    answer BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX consumed_by_expiry ON consumed (expires_at);

CREATE TABLE refusals (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    host TEXT NOT NULL,
    subject TEXT NOT NULL,
    check_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    expected TEXT NOT NULL,
    found TEXT NOT NULL,
    remedy TEXT NOT NULL
) STRICT;
CREATE INDEX refusals_by_host ON refusals (host, at);

-- Endorsement keys that knocked without being enrolled. Bounded.
CREATE TABLE pending (
    digest BLOB PRIMARY KEY,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;
CREATE INDEX pending_by_time ON pending (last_at);

CREATE TABLE registrations (
    label TEXT NOT NULL,
    name TEXT NOT NULL,
    identifier TEXT NOT NULL,
    body TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (label, name)
) STRICT;

-- Generations of a set under one label: staged ones decide nothing yet, several valid ones stand beside each other while a fleet is
-- updated, retired ones are kept to be compared with.
CREATE TABLE reference_sets (
    label TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('staged', 'valid', 'retired')),
    -- Who says so: an operator, or the signer of a vendor's manifest.
    source TEXT NOT NULL,
    body TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (label, generation)
) STRICT;

-- Digests of known files.
CREATE TABLE file_lists (
    label TEXT PRIMARY KEY,
    -- Labels of the hosts that it is for, JSON; null for all.
    hosts TEXT,
    body BLOB NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE policy_sets (
    label TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    -- Labels of hosts for which the set only observes, JSON.
    observe TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

-- What was issued: for the audit trail, and so that an identifier is not given to somebody else while old credentials live.
CREATE TABLE issuances (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    host TEXT NOT NULL,
    registration TEXT NOT NULL,
    identifier TEXT NOT NULL,
    kind TEXT NOT NULL,
    custody TEXT NOT NULL,
    key_digest BLOB NOT NULL,
    credential_digest BLOB NOT NULL,
    not_after INTEGER NOT NULL
) STRICT;
CREATE INDEX issuances_by_identifier ON issuances (identifier, not_after);
CREATE INDEX issuances_by_key ON issuances (key_digest);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject, kind);
