/* Scanning of encoded text: where strings, containers and fields end. `end` bounds the record, `lim` the memory:
   16-byte loads may pass the first, never the second. Numbers and dates are in convert.h. */
#ifndef SABOT_SCAN_H
#define SABOT_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#define SB_SSE2 1
#endif

typedef const uint8_t *sb_ptr;

enum { SB_ESCAPED = 1, SB_NON_ASCII = 2, SB_CONTROL = 4 };

static inline int sb_is_space(uint8_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static inline sb_ptr sb_skip_space(sb_ptr p, sb_ptr end) {
    while (p < end && sb_is_space(*p)) p++;
    return p;
}

/* The closing quote of a string whose first character is at p; NULL if there is none before `end`.
   Sets SB_ESCAPED, SB_NON_ASCII, SB_CONTROL for what stands inside. */
static inline sb_ptr sb_string_end(sb_ptr p, sb_ptr end, sb_ptr lim, int *flags) {
    int found = 0;
    while (p < end) {
#ifdef SB_SSE2
        if (lim - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
            stop = _mm_or_si128(stop, _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v));
            unsigned m = (unsigned)_mm_movemask_epi8(stop), high = (unsigned)_mm_movemask_epi8(v);
            if (m == 0) {
                if (high) found |= SB_NON_ASCII;
                p += 16;
                continue;
            }
            unsigned i = (unsigned)__builtin_ctz(m);
            if (high & ((1u << i) - 1)) found |= SB_NON_ASCII;
            p += i;
            if (p >= end) return NULL;
        }
#endif
        uint8_t c = *p;
        if (c == '"') {
            *flags = found;
            return p;
        }
        if (c == '\\') {
            found |= SB_ESCAPED;
            p += 2;
            continue;
        }
        if (c < 0x20) found |= SB_CONTROL;
        else if (c >= 0x80) found |= SB_NON_ASCII;
        p++;
    }
    return NULL;
}

/* The same without looking at what stands inside. */
static inline sb_ptr sb_string_skip(sb_ptr p, sb_ptr end, sb_ptr lim) {
    while (p < end) {
#ifdef SB_SSE2
        if (lim - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
            unsigned m = (unsigned)_mm_movemask_epi8(stop);
            if (m == 0) {
                p += 16;
                continue;
            }
            p += __builtin_ctz(m);
            if (p >= end) return NULL;
        }
#endif
        if (*p == '"') return p;
        p += *p == '\\' ? 2 : 1;
    }
    return NULL;
}

#define SB_MAX_DEPTH 1024

/* Past the container that opens at p; NULL if it is not closed, closed by the wrong bracket, or too deep. */
static sb_ptr sb_container_skip(sb_ptr p, sb_ptr end, sb_ptr lim) {
    uint64_t is_object[SB_MAX_DEPTH / 64];
    int depth = 0;
    while (p < end) {
#ifdef SB_SSE2
        if (lim - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20)); /* [ and { fold together, ] and } too */
            __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(folded, _mm_set1_epi8('{')),
                                        _mm_cmpeq_epi8(folded, _mm_set1_epi8('}')));
            stop = _mm_or_si128(stop, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
            unsigned m = (unsigned)_mm_movemask_epi8(stop);
            if (m == 0) {
                p += 16;
                continue;
            }
            p += __builtin_ctz(m);
            if (p >= end) return NULL;
        }
#endif
        uint8_t c = *p;
        if (c == '"') {
            p = sb_string_skip(p + 1, end, lim);
            if (!p) return NULL;
        } else if (c == '{' || c == '[') {
            if (depth == SB_MAX_DEPTH) return NULL;
            uint64_t bit = 1ull << (depth & 63);
            if (c == '{') is_object[depth >> 6] |= bit;
            else is_object[depth >> 6] &= ~bit;
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            if (((is_object[depth >> 6] >> (depth & 63)) & 1) != (c == '}')) return NULL;
            if (depth == 0) return p + 1;
        }
        p++;
    }
    return NULL;
}

/* The end of a number or literal that starts at p: the first comma, bracket or space. */
static inline sb_ptr sb_token_end(sb_ptr p, sb_ptr end) {
    while (p < end && *p > ' ' && *p != ',' && *p != '}' && *p != ']' && *p != '"' && *p != ':' && *p != '{' && *p != '[')
        p++;
    return p;
}

/* -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? and nothing more. */
static inline int sb_is_number(sb_ptr p, sb_ptr end) {
    if (p < end && *p == '-') p++;
    if (p >= end || *p < '0' || *p > '9') return 0;
    if (*p == '0') p++;
    else
        while (p < end && *p >= '0' && *p <= '9') p++;
    if (p < end && *p == '.') {
        sb_ptr start = ++p;
        while (p < end && *p >= '0' && *p <= '9') p++;
        if (p == start) return 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        sb_ptr start = p;
        while (p < end && *p >= '0' && *p <= '9') p++;
        if (p == start) return 0;
    }
    return p == end;
}

static inline int sb_is_word(sb_ptr p, sb_ptr end, const char *word, ptrdiff_t length) {
    return end - p == length && memcmp(p, word, (size_t)length) == 0;
}

/* Past the value at p, whatever it is; NULL if it is none. */
static inline sb_ptr sb_value_skip(sb_ptr p, sb_ptr end, sb_ptr lim) {
    if (p >= end) return NULL;
    if (*p == '"') {
        p = sb_string_skip(p + 1, end, lim);
        return p ? p + 1 : NULL;
    }
    if (*p == '{' || *p == '[') return sb_container_skip(p, end, lim);
    sb_ptr stop = sb_token_end(p, end);
    if (sb_is_word(p, stop, "null", 4) || sb_is_word(p, stop, "true", 4) || sb_is_word(p, stop, "false", 5)) return stop;
    return sb_is_number(p, stop) ? stop : NULL;
}

/* A key seen before at this place of an object: its text with the closing quote. */
#define SB_KEY_BYTES 64
typedef struct {
    uint8_t text[SB_KEY_BYTES];
    unsigned mask; /* the bytes of the first 16 that count */
    int length;    /* with the quote; 0: nothing learned */
    int child;     /* the field it names, -1: none */
} sb_key;

static inline void sb_key_learn(sb_key *key, sb_ptr text, ptrdiff_t length, int child) {
    if (length >= SB_KEY_BYTES) {
        key->length = 0;
        return;
    }
    memset(key->text, 0, SB_KEY_BYTES);
    memcpy(key->text, text, (size_t)length);
    key->text[length] = '"';
    key->length = (int)length + 1;
    key->mask = key->length >= 16 ? 0xffffu : (1u << key->length) - 1;
    key->child = child;
}

static inline int sb_key_match(const sb_key *key, sb_ptr p, sb_ptr end, sb_ptr lim) {
    if (key->length == 0 || end - p < key->length) return 0;
#ifdef SB_SSE2
    if (lim - p >= 16) {
        __m128i eq = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)p), _mm_loadu_si128((const __m128i *)key->text));
        if (((unsigned)_mm_movemask_epi8(eq) & key->mask) != key->mask) return 0;
        return key->length <= 16 || memcmp(p + 16, key->text + 16, (size_t)key->length - 16) == 0;
    }
#endif
    return memcmp(p, key->text, (size_t)key->length) == 0;
}

/* Well-formed UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF. */
static int sb_is_utf8(sb_ptr p, sb_ptr end) {
    while (p < end) {
        uint8_t c = *p;
        int more;
        uint32_t code, least;
        if (c < 0x80) {
            p++;
            continue;
        }
        if ((c & 0xe0) == 0xc0) more = 1, code = c & 0x1f, least = 0x80;
        else if ((c & 0xf0) == 0xe0) more = 2, code = c & 0x0f, least = 0x800;
        else if ((c & 0xf8) == 0xf0) more = 3, code = c & 0x07, least = 0x10000;
        else return 0;
        if (end - p <= more) return 0;
        for (int i = 1; i <= more; i++) {
            if ((p[i] & 0xc0) != 0x80) return 0;
            code = code << 6 | (p[i] & 0x3f);
        }
        if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
        p += more + 1;
    }
    return 1;
}

static inline int sb_hex4(sb_ptr p, uint32_t *code) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i], lower = c | 0x20;
        if (c >= '0' && c <= '9') value = value << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f') value = value << 4 | (uint32_t)(lower - 'a' + 10);
        else return 0;
    }
    *code = value;
    return 1;
}

/* The text of a JSON string with its escapes resolved, at most as long; -1 if an escape is malformed. */
static ptrdiff_t sb_unescape(sb_ptr p, sb_ptr end, uint8_t *out) {
    uint8_t *start = out;
    while (p < end) {
        if (*p != '\\') {
            sb_ptr next = (sb_ptr)memchr(p, '\\', (size_t)(end - p));
            if (!next) next = end;
            memmove(out, p, (size_t)(next - p));
            out += next - p;
            p = next;
            continue;
        }
        if (end - p < 2) return -1;
        uint8_t c = p[1];
        p += 2;
        uint32_t code, low;
        switch (c) {
        case '"': case '\\': case '/': *out++ = c; continue;
        case 'b': *out++ = '\b'; continue;
        case 'f': *out++ = '\f'; continue;
        case 'n': *out++ = '\n'; continue;
        case 'r': *out++ = '\r'; continue;
        case 't': *out++ = '\t'; continue;
        case 'u': break;
        default: return -1;
        }
        if (end - p < 4 || !sb_hex4(p, &code)) return -1;
        p += 4;
        if (code >= 0xd800 && code < 0xe000) {
            if (code >= 0xdc00 || end - p < 6 || p[0] != '\\' || p[1] != 'u' || !sb_hex4(p + 2, &low) || low < 0xdc00 ||
                low >= 0xe000)
                return -1;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
        if (code < 0x80) *out++ = (uint8_t)code;
        else if (code < 0x800) {
            *out++ = (uint8_t)(0xc0 | code >> 6);
            *out++ = (uint8_t)(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
            *out++ = (uint8_t)(0xe0 | code >> 12);
            *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
            *out++ = (uint8_t)(0x80 | (code & 0x3f));
        } else {
            *out++ = (uint8_t)(0xf0 | code >> 18);
            *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
            *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
            *out++ = (uint8_t)(0x80 | (code & 0x3f));
        }
    }
    return out - start;
}

/* The first delimiter or newline at or after p, or `end`. */
static inline sb_ptr sb_field_end(sb_ptr p, sb_ptr end, sb_ptr lim, uint8_t delimiter) {
    while (p < end) {
#ifdef SB_SSE2
        if (lim - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8((char)delimiter)),
                                        _mm_cmpeq_epi8(v, _mm_set1_epi8('\n')));
            unsigned m = (unsigned)_mm_movemask_epi8(stop);
            if (m == 0) {
                p += 16;
                continue;
            }
            p += __builtin_ctz(m);
            return p < end ? p : end;
        }
#endif
        if (*p == delimiter || *p == '\n') return p;
        p++;
    }
    return end;
}

#endif
