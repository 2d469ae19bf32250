//! RSA keys that a flawed library made (CVE-2017-15361): primes of the form k·M + (65537^a mod M), so that the modulus is a power
//! of 65537 modulo each small prime. Of other keys about one in 2^27 looks like that.

/// The odd primes up to 167, without those of which 65537 generates every residue.
const PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];

/// Whether a modulus (big-endian) has the mark.
pub(crate) fn marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let residue = modulus
            .iter()
            .fold(0, |sum, digit| (sum * 256 + u32::from(*digit)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            let found = power == residue;
            power = power * 65_537 % prime;
            found
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of the primes that the library built its keys from, up to 167: any power of 65537 modulo it is marked.
    #[test]
    fn powers_of_the_generator_are_marked_and_their_neighbours_are_not() {
        let modulus: u128 = PRIMES.iter().map(|prime| u128::from(*prime)).product::<u128>();
        let mut power: u128 = 1;
        for _ in 0..50 {
            power = power * 65_537 % modulus;
            assert!(marked(&power.to_be_bytes()));
            assert!(!marked(&(power + 1).to_be_bytes()));
        }
    }
}
