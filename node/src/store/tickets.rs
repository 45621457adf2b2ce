//! The tickets that this device made: only their maker honours them.
//!
//! A ticket's secret authenticates and never encrypts, and is of no use once the ticket has expired; so it may lie
//! here, whose freed pages keep what was removed, and not in the home's file of secrets.

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::{DeviceId, TicketId};
use zerocloud_crdt::membership::Role;
use zerocloud_crdt::ticket::TicketSecret;

use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write};
use crate::clock::WallTime;

/// A ticket that this device made.
#[derive(Clone, Serialize, Deserialize)]
pub struct TicketRow {
    /// What the joiner proves that it holds. The ticket's id follows from it.
    pub secret: TicketSecret,
    /// The role that the joiner gets.
    pub role: Role,
    /// From when on it is not honoured, in milliseconds since 1970.
    pub expiry_ms: i64,
    /// Whether it is for a device of one's own person.
    pub is_own: bool,
    /// Whether the user must say that both screens show the same six words.
    pub confirm: bool,
    /// For a device of one's own: what is shown to the joiner after its request.
    pub nonce: Option<[u8; 32]>,
    /// Who has used it. That device may ask again until the ticket expires, and nobody else may.
    pub joiner: Option<DeviceId>,
}

/// Shows neither the secret nor the nonce: who knows the nonce before it has asked can search for a request that gives
/// the words which it wants.
impl std::fmt::Debug for TicketRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketRow")
            .field("role", &self.role)
            .field("expiry_ms", &self.expiry_ms)
            .field("is_own", &self.is_own)
            .field("confirm", &self.confirm)
            .field("joiner", &self.joiner)
            .finish_non_exhaustive()
    }
}

impl TicketRow {
    /// Whether the ticket is honoured at `now` when `device` shows it.
    pub fn is_open_to(&self, device: DeviceId, now: WallTime) -> bool {
        !self.is_expired(now) && self.joiner.is_none_or(|joiner| joiner == device)
    }

    const fn is_expired(&self, now: WallTime) -> bool {
        self.expiry_ms <= now.as_milliseconds()
    }
}

impl<T: Tables> Transaction<T> {
    /// The ticket with this id.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn ticket(&self, id: TicketId) -> Result<Option<TicketRow>, StoreError> {
        self.load(Table::Tickets, id.as_bytes())
    }

    /// Every ticket, used and unused, ascending by id.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn tickets(&self) -> Result<Vec<(TicketId, TicketRow)>, StoreError> {
        tables::collect(&self.tables, Table::Tickets, &[], |id, row| {
            Ok((TicketId(tables::exactly(Table::Tickets, id)?), tables::decode(Table::Tickets, row)?))
        })
    }
}

impl Write<'_> {
    /// Keeps a ticket under the id of its secret, in place of what was there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_ticket(&mut self, row: &TicketRow) -> Result<(), StoreError> {
        self.tables.store(Table::Tickets, row.secret.id().as_bytes(), row)
    }

    /// Withdraws a ticket; returns whether there was one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_ticket(&mut self, id: TicketId) -> Result<bool, StoreError> {
        self.tables.remove(Table::Tickets, id.as_bytes())
    }

    /// Forgets the tickets that are not honoured any more at `now`, used and unused.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_expired_tickets(&mut self, now: WallTime) -> Result<(), StoreError> {
        for (id, row) in self.tickets()? {
            if row.is_expired(now) {
                self.remove_ticket(id)?;
            }
        }
        Ok(())
    }

    /// Binds a ticket to `device`, if it is honoured at `now` when that device shows it; returns whether it is. Once
    /// this is committed no other device gets in with it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn bind_ticket(&mut self, id: TicketId, device: DeviceId, now: WallTime) -> Result<bool, StoreError> {
        let Some(row) = self.ticket(id)?.filter(|row| row.is_open_to(device, now)) else { return Ok(false) };
        if row.joiner.is_none() {
            self.put_ticket(&TicketRow { joiner: Some(device), ..row })?;
        }
        Ok(true)
    }
}
