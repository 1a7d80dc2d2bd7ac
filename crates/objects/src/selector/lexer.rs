//! The words of a label selector.

use std::{iter::Peekable, str::CharIndices};

/// A word of a label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key, a value, or the words `in` and `notin`.
    Word(&'a str),
    /// One of `= == != ! < > ( ) ,`.
    Symbol(&'a str),
    /// There is no more.
    End,
}

impl<'a> Token<'a> {
    /// The token as it stands in the selector.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

/// Reads a selector token by token, with one token of lookahead.
pub(super) struct Lexer<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    next: Option<Token<'a>>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            rest: text.char_indices().peekable(),
            next: None,
        }
    }

    pub(super) fn peek(&mut self) -> Token<'a> {
        let token = match self.next {
            Some(token) => token,
            None => self.read(),
        };
        self.next = Some(token);
        token
    }

    pub(super) fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next = None;
        token
    }

    fn read(&mut self) -> Token<'a> {
        while self.rest.next_if(|(_, c)| is_space(*c)).is_some() {}
        let Some((start, first)) = self.rest.next() else {
            return Token::End;
        };
        let mut end = start + first.len_utf8();
        if !is_symbol(first) {
            while let Some((at, c)) = self.rest.next_if(|(_, c)| !is_symbol(*c) && !is_space(*c)) {
                end = at + c.len_utf8();
            }
            return Token::Word(&self.text[start..end]);
        }
        if matches!(first, '=' | '!') && self.rest.next_if(|(_, c)| *c == '=').is_some() {
            end += 1;
        }
        Token::Symbol(&self.text[start..end])
    }
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
