/* Text to values: numbers, dates and times. Every function takes [p, end) and returns 1 or 0; nothing is written on 0. */
#ifndef SABOT_CONVERT_H
#define SABOT_CONVERT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

typedef __int128 sb_int128;
typedef unsigned __int128 sb_uint128;

static inline int sb_digit(uint8_t c) { return c >= '0' && c <= '9'; }

/* A plain run of digits with an optional minus, at most 18 of them; the common case of every integer. */
static inline int sb_short_int(const uint8_t *p, const uint8_t *end, int64_t *out) {
    int negative = p < end && *p == '-';
    p += negative;
    if (p >= end || end - p > 18) return 0;
    int64_t value = 0;
    for (; p < end; p++) {
        if (!sb_digit(*p)) return 0;
        value = value * 10 + (*p - '0');
    }
    *out = negative ? -value : value;
    return 1;
}

/* A decimal number times 10^scale as an integer. Half is rounded away from zero; with `exact` a remainder refuses it.
   Takes signs, leading zeros, an exponent and a bare point on either side. */
static int sb_fixed(const uint8_t *p, const uint8_t *end, int scale, int exact, sb_int128 *out) {
    int negative = 0, digits = 0, seen = 0;
    long point = 0, exponent = 0;
    const uint8_t *start, *stop;
    if (p < end && (*p == '-' || *p == '+')) negative = *p++ == '-';
    start = p;
    while (p < end && sb_digit(*p)) p++, digits++;
    if (p < end && *p == '.') {
        p++;
        while (p < end && sb_digit(*p)) p++, digits++, point++;
    }
    stop = p;
    if (digits == 0) return 0;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int minus = 0, any = 0;
        p++;
        if (p < end && (*p == '-' || *p == '+')) minus = *p++ == '-';
        for (; p < end && sb_digit(*p); p++, any = 1)
            if (exponent < 100000) exponent = exponent * 10 + (*p - '0');
        if (!any) return 0;
        if (minus) exponent = -exponent;
    }
    if (p != end) return 0;
    long shift = exponent - point + scale; /* zeros to add, or digits to drop */
    long keep = digits + shift;
    sb_uint128 value = 0;
    const sb_uint128 most = ~(sb_uint128)0 >> 1;
    int round = 0, dropped = 0;
    for (p = start; p < stop; p++) {
        if (*p == '.') continue;
        unsigned d = (unsigned)(*p - '0');
        if (seen < keep) {
            if (value > (most - d) / 10) return 0;
            value = value * 10 + d;
        } else {
            if (seen == keep && d >= 5) round = 1;
            if (d) dropped = 1;
        }
        seen++;
    }
    if (exact && dropped) return 0;
    if (value != 0)
        for (; shift > 0; shift--) {
            if (value > most / 10) return 0;
            value *= 10;
        }
    value += (sb_uint128)round;
    *out = negative ? -(sb_int128)value : (sb_int128)value;
    return 1;
}

static const double sb_tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static int sb_words_double(const uint8_t *p, const uint8_t *end, double *out) {
    char low[10];
    ptrdiff_t n = end - p;
    double sign = 1;
    if (n > 0 && (*p == '-' || *p == '+')) {
        sign = *p == '-' ? -1 : 1;
        p++, n--;
    }
    if (n < 3 || n > 9) return 0;
    for (ptrdiff_t i = 0; i < n; i++) low[i] = (char)(p[i] | 0x20);
    if (n == 3 && memcmp(low, "nan", 3) == 0) *out = NAN;
    else if ((n == 3 && memcmp(low, "inf", 3) == 0) || (n == 8 && memcmp(low, "infinity", 8) == 0)) *out = sign * INFINITY;
    else return 0;
    return 1;
}

static locale_t sb_c_locale;

/* Call once, with the GIL, before sb_double. */
static int sb_convert_init(void) {
    if (!sb_c_locale) sb_c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return sb_c_locale != (locale_t)0;
}

/* Correctly rounded; too large is refused, too small is 0. `single`: rounded once to float32. */
static int sb_double(const uint8_t *p, const uint8_t *end, int single, double *out) {
    const uint8_t *start = p;
    int negative = 0, digits = 0, any = 0;
    uint64_t mantissa = 0;
    long exponent = 0;
    if (p < end && (*p == '-' || *p == '+')) negative = *p++ == '-';
    for (; p < end && sb_digit(*p); p++, any = 1) {
        mantissa = mantissa * 10 + (uint64_t)(*p - '0');
        digits += mantissa != 0;
    }
    if (p < end && *p == '.') {
        p++;
        for (; p < end && sb_digit(*p); p++, any = 1, exponent--) {
            mantissa = mantissa * 10 + (uint64_t)(*p - '0');
            digits += mantissa != 0;
        }
    }
    if (!any) return sb_words_double(start, end, out);
    if (p < end && (*p == 'e' || *p == 'E')) {
        long e = 0;
        int minus = 0;
        any = 0;
        p++;
        if (p < end && (*p == '-' || *p == '+')) minus = *p++ == '-';
        for (; p < end && sb_digit(*p); p++, any = 1)
            if (e < 100000) e = e * 10 + (*p - '0');
        if (!any) return 0;
        exponent += minus ? -e : e;
    }
    if (p != end) return 0;
    /* both factors are exact here, so one operation rounds once */
    if (!single && digits <= 19 && mantissa <= (1ull << 53) && exponent >= -22 && exponent <= 22) {
        double value = (double)mantissa;
        value = exponent < 0 ? value / sb_tens[-exponent] : value * sb_tens[exponent];
        *out = negative ? -value : value;
        return 1;
    }
    char small[128], *text = small;
    size_t n = (size_t)(end - start);
    if (n >= sizeof small && !(text = (char *)malloc(n + 1))) return 0;
    memcpy(text, start, n);
    text[n] = 0;
    double value = single ? (double)strtof_l(text, NULL, sb_c_locale) : strtod_l(text, NULL, sb_c_locale);
    if (text != small) free(text);
    if (isinf(value)) return 0;
    *out = value;
    return 1;
}

static inline int sb_two(const uint8_t *p, int *out) {
    if (!sb_digit(p[0]) || !sb_digit(p[1])) return 0;
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return 1;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar; months count from March so that a leap day comes last. */
static inline int64_t sb_civil_days(int year, int month, int day) {
    int y = year - (month <= 2), m = month > 2 ? month - 3 : month + 9;
    int era = (y >= 0 ? y : y - 399) / 400, in_era = y - era * 400;
    int in_year = (153 * m + 2) / 5 + day - 1;
    return (int64_t)era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

/* The date parsed last: records come in order of time, so it is mostly the next one too. */
typedef struct {
    uint8_t text[16];
    int64_t days;
    int set;
} sb_date_cache;

/* YYYY-MM-DD at p; 10 bytes. */
static inline int sb_date(const uint8_t *p, const uint8_t *end, sb_date_cache *cache, int64_t *days) {
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int century, rest, month, day;
    if (end - p < 10) return 0;
    if (cache->set && memcmp(cache->text, p, 10) == 0) {
        *days = cache->days;
        return 1;
    }
    if (!sb_two(p, &century) || !sb_two(p + 2, &rest) || p[4] != '-' || !sb_two(p + 5, &month) || p[7] != '-' ||
        !sb_two(p + 8, &day))
        return 0;
    int year = century * 100 + rest;
    if (month < 1 || month > 12 || day < 1) return 0;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > lengths[month - 1] + (month == 2 && leap)) return 0;
    *days = sb_civil_days(year, month, day);
    memcpy(cache->text, p, 10);
    cache->days = *days;
    cache->set = 1;
    return 1;
}

/* HH:MM[:SS[.fraction]]; returns past it or NULL. Digits past the ninth are dropped. */
static inline const uint8_t *sb_clock(const uint8_t *p, const uint8_t *end, int64_t *seconds, int64_t *nanos) {
    int hour, minute, second = 0;
    *nanos = 0;
    if (end - p < 5 || !sb_two(p, &hour) || p[2] != ':' || !sb_two(p + 3, &minute)) return NULL;
    p += 5;
    if (end - p >= 3 && p[0] == ':') {
        if (!sb_two(p + 1, &second)) return NULL;
        p += 3;
        if (end - p >= 2 && (p[0] == '.' || p[0] == ',') && sb_digit(p[1])) {
            int64_t unit = 100000000;
            for (p++; p < end && sb_digit(*p); p++, unit /= 10) *nanos += (*p - '0') * unit;
        }
    }
    if (hour > 23 || minute > 59 || second > 59) return NULL;
    *seconds = hour * 3600 + minute * 60 + second;
    return p;
}

/* An ISO 8601 instant or local time: date, then T or a space and a clock, then Z, UTC or an offset. A time without
   an offset is taken as UTC; an offset is applied. */
static inline int sb_timestamp(const uint8_t *p, const uint8_t *end, sb_date_cache *cache, int64_t *seconds,
                               int64_t *nanos) {
    int64_t days, clock;
    int hour, minute = 0;
    if (!sb_date(p, end, cache, &days)) return 0;
    p += 10;
    *nanos = 0;
    *seconds = days * 86400;
    if (p == end) return 1;
    if (*p != 'T' && *p != 't' && *p != ' ') return 0;
    p = sb_clock(p + 1, end, &clock, nanos);
    if (!p) return 0;
    *seconds += clock;
    if (p == end) return 1;
    if (*p == ' ') p++;
    if (end - p == 1 && (*p == 'Z' || *p == 'z')) return 1;
    if (end - p == 3 && memcmp(p, "UTC", 3) == 0) return 1;
    if (end - p < 3 || (*p != '+' && *p != '-') || !sb_two(p + 1, &hour)) return 0;
    int sign = *p == '-' ? -1 : 1;
    p += 3;
    if (p < end && *p == ':') p++;
    if (end - p == 2) {
        if (!sb_two(p, &minute)) return 0;
        p += 2;
    }
    if (p != end || hour > 15 || minute > 59) return 0;
    *seconds -= sign * (hour * 3600 + minute * 60);
    return 1;
}

/* seconds and nanos in `ticks` a second, rounded down; 0 if it does not fit 64 bits. */
static inline int sb_ticks(sb_int128 nanos_total, int64_t ticks, int64_t *out) {
    sb_int128 unit = 1000000000 / ticks, value = nanos_total / unit;
    if (nanos_total % unit < 0) value--;
    if (value > INT64_MAX || value < INT64_MIN) return 0;
    *out = (int64_t)value;
    return 1;
}

static inline int sb_timestamp_ticks(int64_t seconds, int64_t nanos, int64_t ticks, int64_t *out) {
    return sb_ticks((sb_int128)seconds * 1000000000 + nanos, ticks, out);
}

/* A number as a point in time: its size tells seconds, milliseconds, microseconds or nanoseconds since 1970. */
static inline int sb_epoch(const uint8_t *p, const uint8_t *end, int64_t ticks, int64_t *out) {
    sb_int128 value, size, unit = 1000000000;
    if (!sb_fixed(p, end, 9, 0, &value)) return 0;
    size = (value < 0 ? -value : value) / unit;
    if (size < 100000000000ll) unit = 1;
    else if (size < 100000000000000ll) unit = 1000;
    else if (size < 100000000000000000ll) unit = 1000000;
    return sb_ticks(value / unit, ticks, out);
}

#endif
