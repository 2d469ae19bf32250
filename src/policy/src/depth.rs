//! How deep a policy goes. Whoever reads, validates and evaluates expressions does so by recursion; what is deeper than this is refused before
//! anybody tries.

/// Deepest nesting of brackets of any kind.
pub(crate) const MAX_NESTING: usize = 16;
/// Most operators in one policy: `&&`, `||`, `+`, `-`, `*`, `!`, `if`. A chain of them is as deep as it is long.
pub(crate) const MAX_OPERATORS: usize = 32;
/// Longest path of attributes.
pub(crate) const MAX_PATH: usize = 8;

/// Why a text is too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooDeep {
    #[error("line {0}: brackets nested deeper than {MAX_NESTING}")]
    Nesting(usize),
    #[error(
        "line {0}: more than {MAX_OPERATORS} operators in one policy; name values in a set ([..].contains), or write several policies"
    )]
    Operators(usize),
    #[error("line {0}: a path of more than {MAX_PATH} attributes")]
    Path(usize),
}

/// Looks at a text of policies, whether it is one or not.
pub(crate) fn check(text: &str) -> Result<(), TooDeep> {
    let (mut line, mut nesting, mut operators, mut path) = (1, 0_usize, 0, 0);
    let mut rest = text.chars().peekable();
    let mut word = String::new();
    while let Some(c) = rest.next() {
        line += usize::from(c == '\n');
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        operators += usize::from(std::mem::take(&mut word) == "if");
        if c != '.' && !c.is_whitespace() {
            path = 0;
        }
        match c {
            '"' => {
                while let Some(c) = rest.next() {
                    line += usize::from(c == '\n');
                    match c {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n').is_some() {},
            '(' | '[' | '{' => nesting += 1,
            ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
            '&' | '|' => {
                rest.next_if_eq(&c);
                operators += 1;
            }
            '+' | '-' | '*' | '!' => operators += 1,
            '.' => path += 1,
            ';' if nesting == 0 => operators = 0,
            _ => {}
        }
        if nesting > MAX_NESTING {
            return Err(TooDeep::Nesting(line));
        }
        if operators > MAX_OPERATORS {
            return Err(TooDeep::Operators(line));
        }
        if path > MAX_PATH {
            return Err(TooDeep::Path(line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: &str) -> String {
        format!("// a (comment) && so on\npermit (principal, action, resource) when {{ {condition} }};\n")
    }

    #[test]
    fn strings_and_comments_are_not_looked_into_and_each_policy_is_counted_for_itself() {
        let text = format!("\"{}\" != \"\\\"((((\"", "((&&".repeat(100));
        assert_eq!(check(&policy(&text)), Ok(()));
        let many = vec!["true"; MAX_OPERATORS + 1].join(" && ");
        assert_eq!(check(&policy(&many).repeat(20)), Ok(()));
    }

    #[test]
    fn what_goes_deeper_than_anybody_reads_is_refused() {
        let nested = |depth: usize| policy(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth)));
        assert_eq!(check(&nested(MAX_NESTING - 1)), Ok(()));
        assert_eq!(check(&nested(MAX_NESTING)), Err(TooDeep::Nesting(2)));
        let chained = |count: usize, operator: &str| policy(&vec!["true"; count + 1].join(operator));
        for operator in [" && ", " || ", " + ", " - ", " * "] {
            assert_eq!(check(&chained(MAX_OPERATORS, operator)), Ok(()), "{operator}");
            let refused = check(&chained(MAX_OPERATORS + 1, operator));
            assert_eq!(refused, Err(TooDeep::Operators(2)), "{operator}");
        }
        let path = format!("context{}", " .\na".repeat(MAX_PATH + 1));
        assert!(matches!(check(&policy(&path)), Err(TooDeep::Path(_))));
        let conditional = policy(&"if true then true else ".repeat(MAX_OPERATORS + 1));
        assert_eq!(check(&conditional), Err(TooDeep::Operators(2)));
    }
}
