-- Appending: the appends of one group, checked one by one and written as a few large statements, in one round trip.
-- Run with schema.sql. The functions have their owner's rights: who may call them needs no right to write to a table.

-- Returns the position of some event above `above` that has one of the types and all of the tags; null means any.
CREATE FUNCTION first_match(above bigint, tag_keys bigint [], tags text [], type_keys bigint [], types text [])
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    rarest bigint;
BEGIN
    IF tag_keys IS NULL AND type_keys IS NULL THEN
        RETURN (SELECT max(e.position) FROM event AS e WHERE e.position > above);
    ELSIF tag_keys IS NULL THEN
        RETURN (
            SELECT hit.position
            FROM unnest(first_match.type_keys) AS key
            CROSS JOIN LATERAL (
                SELECT e.position FROM event AS e
                WHERE e.type_key = key AND e.position > above AND e.type = ANY (first_match.types)
                ORDER BY e.position LIMIT 1
            ) AS hit
            LIMIT 1
        );
    END IF;
    rarest := tag_keys[1];
    IF cardinality(tag_keys) > 1 THEN
        SELECT key INTO rarest FROM unnest(first_match.tag_keys) AS key
        ORDER BY (
            SELECT count(*) FROM (
                SELECT 1 FROM event_tag AS t WHERE t.tag_key = key AND t.position > above LIMIT 256
            ) AS counted
        )
        LIMIT 1;
    END IF;
    RETURN (
        SELECT walked.position
        FROM event_tag AS walked
        WHERE walked.tag_key = rarest AND walked.position > above
            AND (first_match.type_keys IS NULL OR walked.type_key = ANY (first_match.type_keys))
            AND NOT EXISTS (
                SELECT FROM unnest(first_match.tag_keys) AS key
                WHERE NOT EXISTS (
                    SELECT FROM event_tag AS probed WHERE probed.tag_key = key AND probed.position = walked.position
                )
            )
            AND EXISTS (
                SELECT FROM event AS e
                WHERE e.position = walked.position AND e.tags @> first_match.tags
                    AND (first_match.types IS NULL OR e.type = ANY (first_match.types))
            )
        ORDER BY walked.position LIMIT 1
    );
END $$;

-- Appends a group. Positions are taken under a lock that is held to commit, so they become visible in order.
--
-- Every append of the group succeeds or fails alone. `outcomes` is null if all were appended from `head + 1` on; else it
-- says for each: appended, known (its id was used for the same batch before), reused (… for another), conflict (`firsts`
-- has the position of a match), ahead (a condition is after a position beyond the head, which is in `firsts`).
CREATE FUNCTION append_group(
    _lane uuid,
    _group_no bigint,                -- grows by one for each group of a lane; the same number is the same group again
    _at timestamptz,                 -- null: the server's clock
    _retention interval,
    _sizes integer [],               -- of each append: how many events
    _append_keys bytea [],           -- null if none has an id
    _digests bytea [],
    -- of each item of each condition, in order: its append, and what it asks for; arrays in arrays are texts
    _item_append integer [],         -- null if there are none
    _item_after bigint [],
    _item_tag bigint [],             -- one of its tags
    _item_tag_keys text [],
    _item_tags text [],
    _item_type_keys text [],
    _item_types text [],
    -- which event of which earlier append of the group (by offset) fails which append
    _rival_append integer [],        -- null if there are none; in order
    _rival_of integer [],
    _rival_offset integer [],
    -- of each event
    _types text [],
    _type_keys bigint [],
    _versions integer [],
    _tags text [],
    _data bytea,                     -- of all events, one after the other
    _data_sizes integer [],
    _metadata bytea,
    _metadata_sizes integer [],
    -- of each tag of each event
    _tag_event integer [],
    _tag_keys bigint [],
    _tag_type_keys bigint [],
    OUT head bigint,
    OUT outcomes text [],
    OUT firsts bigint [],
    OUT lasts bigint []
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    appends CONSTANT integer := cardinality(_sizes);
    before bigint;
    newest timestamptz;
    recorded timestamptz;
    plain boolean := true;           -- whether all are appended
    verdicts text [];
    starts bigint [];
    ends bigint [];
    places bigint [];                -- of each event its position, 0 if it is not appended; unused while plain
    next bigint;
    found_at bigint;
    rival integer := 1;
    each record;
BEGIN
    -- What follows must see everything that was committed before the lock was granted.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append_group needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(1382377071, 'event'::regclass::oid::integer);

    SELECT e.position, e.recorded_at INTO before, newest FROM event AS e ORDER BY e.position DESC LIMIT 1;
    before := coalesce(before, 0);
    recorded := coalesce(_at, clock_timestamp());
    INSERT INTO lane AS l (lane, group_no, head, used_at) VALUES (_lane, _group_no, before, clock_timestamp())
    ON CONFLICT (lane) DO UPDATE
    SET group_no = excluded.group_no, head = excluded.head, used_at = excluded.used_at,
        outcomes = NULL, firsts = NULL, lasts = NULL
    WHERE l.group_no < excluded.group_no;
    IF NOT FOUND THEN
        SELECT l.head, l.outcomes, l.firsts, l.lasts INTO head, outcomes, firsts, lasts
        FROM lane AS l WHERE l.lane = _lane;
        RETURN;
    END IF;

    IF _append_keys IS NOT NULL THEN
        FOR each IN
            SELECT asked.nth, a.first, a.last, a.digest = asked.digest AS same
            FROM unnest(_append_keys, _digests) WITH ORDINALITY AS asked (append_key, digest, nth)
            INNER JOIN append AS a ON a.append_key = asked.append_key
            WHERE a.recorded_at >= recorded - _retention
        LOOP
            plain := false;
            verdicts[each.nth] := CASE WHEN each.same THEN 'known' ELSE 'reused' END;
            starts[each.nth] := each.first;
            ends[each.nth] := each.last;
        END LOOP;
    END IF;

    IF _item_append IS NOT NULL THEN
        -- One tag or type of an item is looked for; what is found is looked at more closely.
        FOR each IN
            SELECT item.*
            FROM unnest(
                _item_append, _item_after, _item_tag, _item_tag_keys, _item_tags, _item_type_keys, _item_types
            ) WITH ORDINALITY AS item (append_no, after, tag, tag_keys, tags, type_keys, types, nth)
            WHERE CASE
                WHEN item.after >= before THEN item.after > before
                WHEN item.tag IS NOT NULL THEN EXISTS (
                    SELECT FROM event_tag AS t
                    WHERE t.tag_key = item.tag AND t.position > item.after
                        AND (item.type_keys IS NULL OR t.type_key = ANY (item.type_keys::bigint [])))
                WHEN item.type_keys IS NOT NULL THEN EXISTS (
                    SELECT FROM unnest(item.type_keys::bigint []) AS key
                    CROSS JOIN LATERAL (
                        SELECT FROM event AS e WHERE e.type_key = key AND e.position > item.after LIMIT 1) AS hit)
                ELSE true
            END
            ORDER BY item.nth
        LOOP
            CONTINUE WHEN verdicts[each.append_no] IS NOT NULL;
            IF each.after > before THEN
                plain := false;
                verdicts[each.append_no] := 'ahead';
                starts[each.append_no] := before;
                CONTINUE;
            END IF;
            found_at := first_match(
                each.after, each.tag_keys::bigint [], each.tags::text [], each.type_keys::bigint [], each.types::text []
            );
            IF found_at IS NOT NULL THEN
                plain := false;
                verdicts[each.append_no] := 'conflict';
                starts[each.append_no] := found_at;
            END IF;
        END LOOP;
    END IF;

    IF NOT plain OR _rival_append IS NOT NULL THEN
        plain := false;
        next := before + 1;
        FOR nth IN 1 .. appends LOOP
            WHILE _rival_append[rival] = nth LOOP
                IF verdicts[nth] IS NULL AND verdicts[_rival_of[rival]] = 'appended' THEN
                    verdicts[nth] := 'conflict';
                    starts[nth] := starts[_rival_of[rival]] + _rival_offset[rival];
                END IF;
                rival := rival + 1;
            END LOOP;
            IF verdicts[nth] IS NULL THEN
                verdicts[nth] := 'appended';
                starts[nth] := next;
                next := next + _sizes[nth];
                ends[nth] := next - 1;
            ELSIF ends[nth] IS NULL THEN
                ends[nth] := 0;
            END IF;
        END LOOP;
        SELECT array_agg(CASE verdict WHEN 'appended' THEN start + nth ELSE 0 END ORDER BY append_no, nth) INTO places
        FROM unnest(_sizes, verdicts, starts) WITH ORDINALITY AS a (size, verdict, start, append_no)
        CROSS JOIN LATERAL generate_series(0, size - 1) AS nth;
        UPDATE lane SET outcomes = verdicts, firsts = starts, lasts = ends WHERE lane = _lane;
    END IF;

    recorded := greatest(recorded, newest);
    INSERT INTO event (position, recorded_at, type_key, version, type, tags, data, metadata)
    SELECT
        CASE WHEN plain THEN before + e.nth ELSE places[e.nth] END,
        recorded, e.type_key, e.version, e.type, e.tags::text [],
        substring(_data FROM e.data_end - e.data_size + 1 FOR e.data_size),
        substring(_metadata FROM e.metadata_end - e.metadata_size + 1 FOR e.metadata_size)
    FROM (
        SELECT
            u.*,
            (sum(u.data_size) OVER so_far)::integer AS data_end,
            (sum(u.metadata_size) OVER so_far)::integer AS metadata_end
        FROM unnest(_type_keys, _versions, _types, _tags, _data_sizes, _metadata_sizes)
            WITH ORDINALITY AS u (type_key, version, type, tags, data_size, metadata_size, nth)
        WINDOW so_far AS (ROWS UNBOUNDED PRECEDING)
    ) AS e
    WHERE plain OR places[e.nth] > 0;
    INSERT INTO event_tag (tag_key, position, type_key)
    SELECT t.tag_key, CASE WHEN plain THEN before + t.event ELSE places[t.event] END, t.type_key
    FROM unnest(_tag_keys, _tag_event, _tag_type_keys) AS t (tag_key, event, type_key)
    WHERE plain OR places[t.event] > 0;

    IF _append_keys IS NOT NULL THEN
        next := before;
        IF plain THEN
            FOR nth IN 1 .. appends LOOP
                starts[nth] := next + 1;
                next := next + _sizes[nth];
                ends[nth] := next;
            END LOOP;
        END IF;
        INSERT INTO append AS a (append_key, digest, first, last, recorded_at)
        SELECT k.append_key, k.digest, k.first, k.last, recorded
        FROM unnest(_append_keys, _digests, starts, ends, verdicts) AS k (append_key, digest, first, last, verdict)
        WHERE k.append_key IS NOT NULL AND (plain OR k.verdict = 'appended')
        ON CONFLICT (append_key) DO UPDATE  -- one that is past the window, and not yet forgotten
        SET digest = excluded.digest, first = excluded.first, last = excluded.last, recorded_at = excluded.recorded_at;
    END IF;

    head := before;
    IF NOT plain THEN
        outcomes := verdicts;
        firsts := starts;
        lasts := ends;
    END IF;
END $$;

-- Forgets some append ids past the retention window, and lanes that were not used for as long; never waits for anyone.
CREATE FUNCTION forget(_at timestamptz, _retention interval, _most integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
BEGIN ATOMIC
    DELETE FROM append
    WHERE append_key IN (
        SELECT a.append_key FROM append AS a
        WHERE a.recorded_at < coalesce(_at, clock_timestamp()) - _retention
        ORDER BY a.recorded_at LIMIT _most
        FOR UPDATE SKIP LOCKED
    );
    DELETE FROM lane
    WHERE lane IN (
        SELECT l.lane FROM lane AS l WHERE l.used_at < clock_timestamp() - _retention LIMIT _most FOR UPDATE SKIP LOCKED
    );
END;

REVOKE EXECUTE ON FUNCTION refuse_change, first_match, append_group, forget FROM public;
