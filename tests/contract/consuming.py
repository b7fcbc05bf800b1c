"""Programs that follow what is published by stubs alone: right ones, and wrong ones that type checkers must refuse."""

RIGHT_PYTHON = """
from decimal import Decimal
from typing import assert_never

from published import Card, Cash, Hostile, OrderNoted, OrderPlaced, Replied, parse, receive


def handle(message: bytes) -> str:
    event = parse(message)
    match event:
        case OrderPlaced():
            total: Decimal = event.total
            match event.paid_by:
                case Card(number=number):
                    return f"{number} {total} {event.lines[0].sku}"
                case Cash():
                    return str(event.paid_by.amount + total)
                case _:
                    assert_never(event.paid_by)
        case Replied():
            return event.to.order_id if event.to else event.order_id
        case OrderNoted() | Hostile():
            return event.order_id
        case _:
            assert_never(event)


def about(message: bytes) -> tuple[str, str]:
    received = receive(message)
    return received.id, received.correlation_id
"""
WRONG_PYTHON = """
from published import OrderPlaced, parse

event = parse(b"{}")
event.total
assert isinstance(event, OrderPlaced)
event.total = event.total
event.amount
number: int = event.total
"""
RIGHT_TYPESCRIPT = """
import { parse, MalformedMessage, UnknownEvent, type Decimal, type PublishedEvent } from "./published.js";

export function handle(message: string): string {
  const event: PublishedEvent = parse(message);
  switch (event.type) {
    case "OrderPlaced.v2": {
      const total: Decimal = event.data.total;
      const paid = event.data.paid_by;
      return paid.type === "card" ? paid.number : paid.amount + total;
    }
    case "Replied.v1":
      return event.data.to === null ? event.data.order_id : event.data.to.order_id;
    case "OrderNoted.v1":
      return event.data.order_id;
    default:
      return event.data.order_id;
  }
}

export function safely(message: string): string {
  try {
    return parse(message).id;
  } catch (error) {
    if (error instanceof UnknownEvent) return `unknown ${error.type} ${String(error.event["id"])}`;
    if (error instanceof MalformedMessage) return `malformed ${error.message}`;
    throw error;
  }
}

export function wrongly(event: PublishedEvent): void {
  // @ts-expect-error: only one of them has a total
  event.data.total;
  if (event.type === "OrderPlaced.v2") {
    // @ts-expect-error: text is not a decimal
    const total: Decimal = "9.90";
    // @ts-expect-error: a decimal is not a number
    const sum: number = event.data.total;
    // @ts-expect-error: nothing is assigned to
    event.data.total = event.data.total;
    // @ts-expect-error: there is no such colour
    if (event.data.colour === "green") void [total, sum];
  }
  // @ts-expect-error: there is no such event
  if (event.type === "OrderPlaced.v1") void event;
}
"""
RUN_TYPESCRIPT = """
import { readFileSync } from "node:fs";
import { parse } from "./published.js";
import { safely } from "./use.js";
const messages = readFileSync(0, "utf8").split("\\n").filter(Boolean);
for (const message of messages) {
  const said = safely(message);
  const failed = said.startsWith("unknown ") || said.startsWith("malformed ");
  console.log(JSON.stringify(failed ? { said } : { said, message: parse(message) }));
}
"""
