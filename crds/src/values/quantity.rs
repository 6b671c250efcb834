//! Kubernetes' quantities as numbers.

/// The suffixes of a quantity of bytes, and how many each is. Parts of a byte (`m` and less) are none: who writes `512m` means something else.
const SUFFIXES: [(&str, u64); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// A quantity as a number of bytes, parts of one rounded up; none where it is no quantity of bytes, or more than 64 bits hold.
pub fn bytes(quantity: &str) -> Option<u64> {
    let (number, times) = split(quantity)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let below = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let above = digits.parse::<u128>().ok()?.checked_mul(times.into())?;
    u64::try_from(above.div_ceil(below)).ok()
}

/// The number before a suffix or an exponent, and what that comes to. An E without digits after it is a suffix.
fn split(quantity: &str) -> Option<(&str, u64)> {
    let exponent = quantity.split_once(['e', 'E']).and_then(|(number, power)| Some((number, power.parse().ok()?)));
    if let Some((number, power)) = exponent {
        return Some((number, 10_u64.checked_pow(power)?));
    }
    SUFFIXES.iter().find_map(|(suffix, times)| Some((quantity.strip_suffix(suffix)?, *times)))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (quantity, expected) in [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("80Gi", 80 << 30),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("5.", 5),
            ("512M", 512_000_000),
            ("1e3", 1_000),
            ("1E3", 1_000),
            ("2E", 2_000_000_000_000_000_000),
            ("2Ei", 2 << 60),
            ("0.0001k", 1),
            ("+5k", 5_000),
        ] {
            assert_eq!(bytes(quantity), Some(expected), "{quantity}");
        }
    }

    #[test]
    fn what_is_no_number_of_bytes_is_none() {
        for quantity in
            ["", ".", "Gi", "-1", "++1", "1 Gi", "1.5.5", "9Xi", "16Ei", "1e99", "1e", "١Gi", "512m", "3e-1"]
        {
            assert_eq!(bytes(quantity), None, "{quantity}");
        }
    }
}
