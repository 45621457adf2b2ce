//! Making a ticket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::address::AddressHint;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::ADDRESS_HINT_COUNT_MAX;
use zerocloud_crdt::membership::Role;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::pairing::nonce_hash;
use zerocloud_crdt::ticket::{Ticket, TicketError, TicketSecret};

use crate::clock::WallTime;
use crate::link;
use crate::store::{SpaceStore, StoreError, TicketRow};

/// The device that makes a ticket. No node needs to run for that.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Which it is.
    pub id: DeviceId,
    /// Where it can be found, or could be when that was last known.
    pub addresses: Vec<link::AddressHint>,
    /// Its role in the space; `None` if it is no member.
    pub role: Option<Role>,
    /// The store of the space.
    pub store: Arc<SpaceStore>,
}

/// What ticket is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name of the space, for the joiner.
    pub name: Name,
    /// Whether it is for a device of one's own person. It gets at most the role of this device.
    pub is_own: bool,
    /// The role that the joiner gets.
    pub role: Role,
    /// Whether a device of one's own is let in only once the user has compared the words.
    pub confirm: bool,
    /// For how long it can be used.
    pub valid_for: Duration,
}

/// Why no ticket was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeTicketError {
    /// We are no member.
    #[error("this device is not a member of the space; ask one that is to make the invitation")]
    NotMember,
    /// Other people are an owner's matter.
    #[error("only an owner can invite other people; ask one to make the invitation")]
    NotOwner,
    /// The name leaves no room.
    #[error(transparent)]
    Text(#[from] TicketError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node stops.
    #[error("the node is stopping; start it and try again")]
    Stopping,
}

/// Makes a ticket to a space, by which `issuer` can be found. It is durable here when this returns; expired ones are
/// forgotten. Addresses that do not fit are left out, the least useful first.
///
/// # Errors
/// One variant of [`MakeTicketError`] for each reason. No ticket is kept then.
pub async fn make_ticket(
    issuer: Issuer,
    wanted: Wanted,
    now: WallTime,
    rng: &mut (impl rand_core::CryptoRng + Send),
) -> Result<Ticket, MakeTicketError> {
    let Issuer { id: inviter, addresses, role: own_role, store } = issuer;
    let own_role = own_role.ok_or(MakeTicketError::NotMember)?;
    if !wanted.is_own && !own_role.can_add_members() {
        return Err(MakeTicketError::NotOwner);
    }
    let role = if wanted.is_own { wanted.role.min(own_role) } else { wanted.role };
    let nonce = wanted.is_own.then(|| {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        nonce
    });
    let valid_ms = i64::try_from(wanted.valid_for.as_millis()).unwrap_or(i64::MAX);
    let row = TicketRow {
        secret: TicketSecret::draw(rng),
        role,
        expiry_ms: now.as_milliseconds().saturating_add(valid_ms),
        is_own: wanted.is_own,
        confirm: wanted.is_own && wanted.confirm,
        nonce,
        joiner: None,
    };
    let mut ticket = Ticket {
        inviter,
        space: store.space(),
        secret: row.secret.clone(),
        hints: hints(addresses),
        name: wanted.name,
        role,
        expiry_secs: u64::try_from(row.expiry_ms.div_euclid(1000)).unwrap_or_default(),
        own_device: nonce.as_ref().map(nonce_hash),
    };
    while let Err(error) = ticket.to_text() {
        ticket.hints.pop().ok_or(error)?;
    }
    let keep = move || {
        store.write(|write| {
            write.remove_expired_tickets(now)?;
            write.put_ticket(&row)
        })
    };
    tokio::task::spawn_blocking(keep).await.map_err(|_| MakeTicketError::Stopping)??;
    Ok(ticket)
}

/// Addresses as a ticket carries them: best first, and those that lead only to this machine last.
fn hints(addresses: Vec<link::AddressHint>) -> Vec<AddressHint> {
    let mut hints: Vec<AddressHint> = addresses.iter().filter_map(|hint| hint.try_into().ok()).collect();
    hints.sort_by_key(|hint| match hint {
        AddressHint::Direct(address) => is_loopback(address.to_socket()),
        AddressHint::Relay(_) => false,
    });
    hints.truncate(ADDRESS_HINT_COUNT_MAX);
    hints
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_alone_come_last_and_useless_ones_not_at_all() {
        let direct = |text: &str| link::AddressHint::Direct(text.parse().unwrap());
        let relay = link::AddressHint::Relay("https://relay.example/".to_owned());
        let no_relay = link::AddressHint::Relay("ftp://relay.example/".to_owned());
        let given = vec![
            direct("127.0.0.1:7"),
            relay.clone(),
            direct("0.0.0.0:7"),
            no_relay,
            direct("[::1]:7"),
            direct("192.0.2.1:7"),
        ];
        let hints: Vec<link::AddressHint> = hints(given).iter().map(Into::into).collect();
        assert_eq!(hints, [relay, direct("192.0.2.1:7"), direct("127.0.0.1:7"), direct("[::1]:7")]);
    }
}
