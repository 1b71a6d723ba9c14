/* NEXMark's rules: every value of event n is a function of (seed, n), so any cut into chunks gives the same events.
   Proportions, id rules, hot ratios, strings and sizes are those of the generator in Apache Beam's NEXMark suite. */
#ifndef SABOT_NEXMARK_H
#define SABOT_NEXMARK_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { NX_PERSON = 0, NX_AUCTION = 1, NX_BID = 2 };
enum { NX_CYCLE = 50, NX_AUCTIONS = 3, NX_FIRST_ID = 1000, NX_LEAD = 10, NX_IN_FLIGHT = 100, NX_ACTIVE = 1000 };

typedef struct {
    uint64_t seed;
    int64_t start_ms;
    int64_t event_rate; /* events a second of event time */
} nx_rules;

/* what a random number is for: each use has its own stream */
enum nx_use {
    NX_NAME = 1, NX_SURNAME, NX_MAIL_USER, NX_MAIL_HOST, NX_CARD, NX_CITY, NX_STATE, NX_EXTRA_SIZE, NX_EXTRA,
    NX_ITEM, NX_DESCRIPTION, NX_INITIAL, NX_RESERVE, NX_EXPIRES, NX_SELLER_HOT, NX_SELLER, NX_CATEGORY,
    NX_AUCTION_HOT, NX_AUCTION_ID, NX_BIDDER_HOT, NX_BIDDER, NX_PRICE, NX_CHANNEL_HOT, NX_CHANNEL, NX_URL, NX_URL_ID
};

/* the finalizer of SplitMix64 (Steele, Lea, Flood 2014) */
static inline uint64_t nx_mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static inline uint64_t nx_random(const nx_rules *r, int64_t n, int use) {
    return nx_mix(nx_mix(r->seed + (uint64_t)n * 0x9e3779b97f4a7c15ull) + (uint64_t)use * 0xd1b54a32d192ed03ull);
}

/* 0 to bound - 1 */
static inline int64_t nx_below(uint64_t random, int64_t bound) {
    return (int64_t)((unsigned __int128)random * (uint64_t)bound >> 64);
}

static inline int nx_type(int64_t n) {
    int64_t place = n % NX_CYCLE;
    return place == 0 ? NX_PERSON : place <= NX_AUCTIONS ? NX_AUCTION : NX_BID;
}

static inline int64_t nx_time_ms(const nx_rules *r, int64_t n) {
    return r->start_ms + (int64_t)((__int128)n * 1000 / r->event_rate);
}

/* the newest person and auction when event n happens, counted from 0 */
static inline int64_t nx_last_person(int64_t n) { return n / NX_CYCLE; }

static inline int64_t nx_last_auction(int64_t n) {
    int64_t cycle = n / NX_CYCLE, place = n % NX_CYCLE;
    if (place == 0) return (cycle - 1) * NX_AUCTIONS + NX_AUCTIONS - 1;
    return cycle * NX_AUCTIONS + (place <= NX_AUCTIONS ? place - 1 : NX_AUCTIONS - 1);
}

static inline int64_t nx_any_person(int64_t n, uint64_t random) {
    int64_t people = nx_last_person(n) + 1, active = people < NX_ACTIVE ? people : NX_ACTIVE;
    return people - active + nx_below(random, active + NX_LEAD);
}

static inline int64_t nx_any_auction(int64_t n, uint64_t random) {
    int64_t most = nx_last_auction(n), least = most - NX_IN_FLIGHT;
    if (least < 0) least = 0;
    return least + nx_below(random, most - least + 1 + NX_LEAD);
}

static inline int64_t nx_price(const nx_rules *r, int64_t n, int use) {
    double u = (double)(nx_random(r, n, use) >> 11) * 0x1p-53;
    return llround(exp(u * 13.815510557964274) * 100); /* 10 ** (6 u) in cents */
}

static inline int64_t nx_seller(const nx_rules *r, int64_t n) {
    if (nx_below(nx_random(r, n, NX_SELLER_HOT), 4) > 0) return NX_FIRST_ID + nx_last_person(n) / 100 * 100;
    return NX_FIRST_ID + nx_any_person(n, nx_random(r, n, NX_SELLER));
}

static inline int64_t nx_expires_ms(const nx_rules *r, int64_t n) {
    int64_t now = nx_time_ms(r, n), horizon = nx_time_ms(r, n + NX_IN_FLIGHT * NX_CYCLE / NX_AUCTIONS) - now;
    return now + 1 + nx_below(nx_random(r, n, NX_EXPIRES), horizon > 0 ? horizon * 2 : 1);
}

static inline int64_t nx_bid_auction(const nx_rules *r, int64_t n) {
    if (nx_below(nx_random(r, n, NX_AUCTION_HOT), 2) > 0) return NX_FIRST_ID + nx_last_auction(n) / 100 * 100;
    return NX_FIRST_ID + nx_any_auction(n, nx_random(r, n, NX_AUCTION_ID));
}

static inline int64_t nx_bidder(const nx_rules *r, int64_t n) {
    if (nx_below(nx_random(r, n, NX_BIDDER_HOT), 4) > 0) return NX_FIRST_ID + nx_last_person(n) / 100 * 100 + 1;
    return NX_FIRST_ID + nx_any_person(n, nx_random(r, n, NX_BIDDER));
}

/* ---- texts: written at `out`, which has room for 1024 bytes; the length is returned ---- */

static inline int nx_put(uint8_t *out, const char *text) {
    size_t n = strlen(text);
    memcpy(out, text, n);
    return (int)n;
}

static inline int nx_put_int(uint8_t *out, uint64_t value) {
    uint8_t digits[20];
    int n = 0, i;
    do {
        digits[n++] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value);
    for (i = 0; i < n; i++) out[i] = digits[n - 1 - i];
    return n;
}

/* `length` letters, eight of each random word; up to seven bytes past them are overwritten */
static inline int nx_letters(uint8_t *out, uint64_t state, int length) {
    const uint64_t low = 0x00ff00ff00ff00ffull;
    for (int i = 0; i < length; i += 8) {
        uint64_t x = nx_mix(state += 0x9e3779b97f4a7c15ull);
        uint64_t even = (x & low) * 26 >> 8 & low, odd = (x >> 8 & low) * 26 & ~low;
        x = (even | odd) + 0x6161616161616161ull;
        memcpy(out + i, &x, 8);
    }
    return length;
}

/* 3 to most - 1 letters with a blank (or `special`) for one in thirteen; blanks at the ends are cut */
static int nx_words(uint8_t *out, uint64_t state, int most, uint8_t special) {
    int length = 3 + (int)nx_below(nx_mix(state), most - 3), start = 0;
    nx_letters(out, state, length);
    for (int i = 0; i < length; i += 8) {
        uint64_t x = nx_mix(~(state + (uint64_t)i));
        for (int k = 0; k < 8 && i + k < length; k++, x >>= 8)
            if ((x & 0xff) * 13 < 256) out[i + k] = special;
    }
    if (special != ' ') return length;
    while (length > start && out[length - 1] == ' ') length--;
    while (start < length && out[start] == ' ') start++;
    memmove(out, out + start, (size_t)(length - start));
    return length - start;
}

/* filler that brings a record from `size` to about `wanted` bytes */
static int nx_extra(const nx_rules *r, int64_t n, int size, int wanted, uint8_t *out) {
    if (size >= wanted) return 0;
    wanted -= size;
    int delta = (int)lround(wanted * 0.2);
    int length = wanted - delta + (delta ? (int)nx_below(nx_random(r, n, NX_EXTRA_SIZE), 2 * delta) : 0);
    return nx_letters(out, nx_random(r, n, NX_EXTRA), length);
}

static const char *const nx_names[] = {"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter",
                                       "Walter"};
static const char *const nx_surnames[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones",
                                          "Noris"};
static const char *const nx_cities[] = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond",
                                        "Seattle", "Kent", "Cheyenne"};
static const char *const nx_states[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
static const char *const nx_channels[] = {"Google", "Facebook", "Baidu", "Apple"};

static int nx_name(const nx_rules *r, int64_t n, uint8_t *out) {
    int k = nx_put(out, nx_names[nx_below(nx_random(r, n, NX_NAME), 11)]);
    out[k++] = ' ';
    return k + nx_put(out + k, nx_surnames[nx_below(nx_random(r, n, NX_SURNAME), 9)]);
}

static int nx_email(const nx_rules *r, int64_t n, uint8_t *out) {
    int k = nx_words(out, nx_random(r, n, NX_MAIL_USER), 7, ' ');
    out[k++] = '@';
    k += nx_words(out + k, nx_random(r, n, NX_MAIL_HOST), 5, ' ');
    return k + nx_put(out + k, ".com");
}

static int nx_card(const nx_rules *r, int64_t n, uint8_t *out) {
    uint64_t x = nx_random(r, n, NX_CARD);
    for (int i = 0; i < 19; i++) {
        if (i % 5 == 4) out[i] = ' ';
        else out[i] = (uint8_t)('0' + x % 10), x /= 10;
    }
    return 19;
}

static inline int nx_city(const nx_rules *r, int64_t n, uint8_t *out) {
    return nx_put(out, nx_cities[nx_below(nx_random(r, n, NX_CITY), 10)]);
}

static inline int nx_state(const nx_rules *r, int64_t n, uint8_t *out) {
    return nx_put(out, nx_states[nx_below(nx_random(r, n, NX_STATE), 6)]);
}

static inline int nx_item(const nx_rules *r, int64_t n, uint8_t *out) {
    return nx_words(out, nx_random(r, n, NX_ITEM), 20, ' ');
}

static inline int nx_description(const nx_rules *r, int64_t n, uint8_t *out) {
    return nx_words(out, nx_random(r, n, NX_DESCRIPTION), 100, ' ');
}

/* the hot channels are -4 to -1, the others 0 to 9999; a channel's url is the channel's own */
static inline int64_t nx_channel_number(const nx_rules *r, int64_t n) {
    uint64_t x = nx_random(r, n, NX_CHANNEL);
    return nx_below(nx_random(r, n, NX_CHANNEL_HOT), 2) > 0 ? nx_below(x, 4) - 4 : nx_below(x, 10000);
}

static inline int nx_channel(const nx_rules *r, int64_t n, uint8_t *out) {
    int64_t channel = nx_channel_number(r, n);
    if (channel < 0) return nx_put(out, nx_channels[channel + 4]);
    int k = nx_put(out, "channel-");
    return k + nx_put_int(out + k, (uint64_t)channel);
}

static int nx_url(const nx_rules *r, int64_t n, uint8_t *out) {
    int64_t channel = nx_channel_number(r, n);
    uint64_t state = nx_random(r, channel, NX_URL);
    int k = nx_put(out, "https://www.nexmark.com/");
    for (int i = 0; i < 3; i++) {
        k += nx_words(out + k, nx_mix(state + (uint64_t)i), 5, '_');
        out[k++] = '/';
    }
    k += nx_put(out + k, "item.htm?query=1");
    if (channel >= 0 && nx_below(nx_random(r, channel, NX_URL_ID), 10) > 0) {
        uint32_t reversed = 0;
        for (int i = 0; i < 32; i++) reversed |= ((uint32_t)channel >> i & 1) << (31 - i);
        int64_t id = (int32_t)reversed;
        k += nx_put(out + k, "&channel_id=");
        k += nx_put_int(out + k, (uint64_t)(id < 0 ? -id : id));
    }
    return k;
}

static int nx_person_extra(const nx_rules *r, int64_t n, uint8_t *out) {
    int size = 8 + nx_name(r, n, out) + nx_email(r, n, out) + 19 + nx_city(r, n, out) + 2;
    return nx_extra(r, n, size, 200, out);
}

static int nx_auction_extra(const nx_rules *r, int64_t n, uint8_t *out) {
    int size = 8 + nx_item(r, n, out) + nx_description(r, n, out) + 40;
    return nx_extra(r, n, size, 500, out);
}

/* 2015-07-15 00:00:00.000 */
static int nx_put_time(uint8_t *out, int64_t ms) {
    int64_t days = ms / 86400000, rest = ms % 86400000;
    if (rest < 0) days--, rest += 86400000;
    /* the inverse of counting days by years that start in March */
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, in_era = z - era * 146097;
    int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * year + year / 4 - year / 100), m = (5 * in_year + 2) / 153;
    int64_t day = in_year - (153 * m + 2) / 5 + 1, month = m < 10 ? m + 3 : m - 9;
    year += era * 400 + (month <= 2);
    const int64_t parts[] = {month, day, rest / 3600000, rest / 60000 % 60, rest / 1000 % 60};
    static const char after[] = "-- ::.";
    out[0] = (uint8_t)('0' + year / 1000 % 10), out[1] = (uint8_t)('0' + year / 100 % 10);
    out[2] = (uint8_t)('0' + year / 10 % 10), out[3] = (uint8_t)('0' + year % 10);
    for (int i = 0; i < 5; i++) {
        out[4 + 3 * i] = (uint8_t)after[i];
        out[5 + 3 * i] = (uint8_t)('0' + parts[i] / 10);
        out[6 + 3 * i] = (uint8_t)('0' + parts[i] % 10);
    }
    out[19] = '.';
    out[20] = (uint8_t)('0' + rest / 100 % 10), out[21] = (uint8_t)('0' + rest / 10 % 10);
    out[22] = (uint8_t)('0' + rest % 10);
    return 23;
}

/* One event as a line of JSON with the columns event_type, person, auction, bid; room for 2048 bytes. */
static int nx_json(const nx_rules *r, int64_t n, uint8_t *out) {
    uint8_t *p = out;
#define NX_TEXT(key, put) p += nx_put(p, key), p += put, *p++ = '"'
#define NX_INT(key, value) p += nx_put(p, key), p += nx_put_int(p, (uint64_t)(value))
    switch (nx_type(n)) {
    case NX_PERSON:
        NX_INT("{\"event_type\":0,\"person\":{\"id\":", NX_FIRST_ID + nx_last_person(n));
        NX_TEXT(",\"name\":\"", nx_name(r, n, p));
        NX_TEXT(",\"email_address\":\"", nx_email(r, n, p));
        NX_TEXT(",\"credit_card\":\"", nx_card(r, n, p));
        NX_TEXT(",\"city\":\"", nx_city(r, n, p));
        NX_TEXT(",\"state\":\"", nx_state(r, n, p));
        NX_TEXT(",\"date_time\":\"", nx_put_time(p, nx_time_ms(r, n)));
        NX_TEXT(",\"extra\":\"", nx_person_extra(r, n, p));
        p += nx_put(p, "},\"auction\":null,\"bid\":null}\n");
        break;
    case NX_AUCTION: {
        int64_t initial = nx_price(r, n, NX_INITIAL);
        NX_INT("{\"event_type\":1,\"person\":null,\"auction\":{\"id\":", NX_FIRST_ID + nx_last_auction(n));
        NX_TEXT(",\"item_name\":\"", nx_item(r, n, p));
        NX_TEXT(",\"description\":\"", nx_description(r, n, p));
        NX_INT(",\"initial_bid\":", initial);
        NX_INT(",\"reserve\":", initial + nx_price(r, n, NX_RESERVE));
        NX_TEXT(",\"date_time\":\"", nx_put_time(p, nx_time_ms(r, n)));
        NX_TEXT(",\"expires\":\"", nx_put_time(p, nx_expires_ms(r, n)));
        NX_INT(",\"seller\":", nx_seller(r, n));
        NX_INT(",\"category\":", 10 + nx_below(nx_random(r, n, NX_CATEGORY), 5));
        NX_TEXT(",\"extra\":\"", nx_auction_extra(r, n, p));
        p += nx_put(p, "},\"bid\":null}\n");
        break;
    }
    default:
        NX_INT("{\"event_type\":2,\"person\":null,\"auction\":null,\"bid\":{\"auction\":", nx_bid_auction(r, n));
        NX_INT(",\"bidder\":", nx_bidder(r, n));
        NX_INT(",\"price\":", nx_price(r, n, NX_PRICE));
        NX_TEXT(",\"channel\":\"", nx_channel(r, n, p));
        NX_TEXT(",\"url\":\"", nx_url(r, n, p));
        NX_TEXT(",\"date_time\":\"", nx_put_time(p, nx_time_ms(r, n)));
        NX_TEXT(",\"extra\":\"", nx_extra(r, n, 32, 100, p));
        p += nx_put(p, "}}\n");
    }
#undef NX_TEXT
#undef NX_INT
    return (int)(p - out);
}

#endif
