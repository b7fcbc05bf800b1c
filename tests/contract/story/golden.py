"""What each program has stored, byte for byte: the past, which no later program may forget how to read."""

from refold import NewEvent

STORED: dict[int, list[NewEvent]] = {
    2021: [
        NewEvent(
            "OrderPlaced",
            b'{"order_id":"o-1","customer_id":"ann","sku":"tea","quantity":2,"amount":900,"address":"1 High Street"}',
            ("order:o-1", "customer:ann", "product:tea"),
        ),
        NewEvent(
            "OrderPlaced",
            b'{"order_id":"o-2","customer_id":"bob","sku":"cup","quantity":1,"amount":450,"address":"2 Low Road"}',
            ("order:o-2", "customer:bob", "product:cup"),
        ),
        NewEvent(
            "OrderAborted",
            b'{"order_id":"o-2","customer_id":"bob","why":"out of stock"}',
            ("order:o-2", "customer:bob"),
        ),
        NewEvent("OrderCounted", b'{"order_id":"o-1"}', ("order:o-1",)),
    ],
    2022: [
        NewEvent(
            "OrderPlaced",
            b'{"order_id":"o-3","customer_id":"ann","lines":['
            b'{"sku":"tea","quantity":1,"amount":450},{"sku":"cup","quantity":4,"amount":1800}'
            b'],"address":"1 High Street"}',
            ("order:o-3", "customer:ann", "product:tea", "product:cup"),
            version=2,
        ),
        NewEvent(
            "OrderCancelled",
            b'{"order_id":"o-1","customer_id":"ann","reason":"never arrived"}',
            ("order:o-1", "customer:ann"),
        ),
        NewEvent("OrderCounted", b'{"order_id":"o-3"}', ("order:o-3",)),
    ],
    2024: [
        NewEvent(
            "OrderPlaced",
            b'{"order_id":"o-4","customer_id":"cyd","lines":['
            b'{"sku":"tea","quantity":3,"amount":"13.50"}],"currency":"EUR","address":"3 Side Lane"}',
            ("order:o-4", "customer:cyd", "product:tea"),
            version=3,
        ),
        NewEvent(
            "OrderCancelled",
            b'{"order_id":"o-3","customer_id":"ann","reason":"changed her mind"}',
            ("order:o-3", "customer:ann"),
        ),
    ],
    2026: [
        NewEvent(
            "OrderPlaced",
            b'{"order_id":"o-5","customer_id":"cyd","lines":['
            b'{"sku":"cup","quantity":2,"amount":"9.00"},{"sku":"pot","quantity":1,"amount":"30.00"}],"currency":"EUR"}',
            ("order:o-5", "customer:cyd", "product:cup", "product:pot"),
            version=4,
        ),
        NewEvent("DeliveryAsked", b'{"order_id":"o-5","address":"3 Side Lane"}', ("order:o-5",)),
        NewEvent("DeliveryAsked", b'{"order_id":"o-4","address":"4 New Square"}', ("order:o-4",)),
    ],
}


def forms(*, upto: int) -> list[tuple[str, int]]:
    """Return the types and versions that were stored up to a year."""
    return [(event.type, event.version) for year, events in STORED.items() if year <= upto for event in events]
