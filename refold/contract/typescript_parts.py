"""The parts of stubs in TypeScript that are the same for every contract; of the helpers only those that are used."""

BRANDS = {
    "date-time": (
        "DateTime",
        "dateTime",
        r"/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$/",
        "a date and time",
    ),
    "date": ("LocalDate", "localDate", r"/^\d{4}-\d\d-\d\d$/", "a date"),
    "time": ("LocalTime", "localTime", r"/^\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$/", "a time of day"),
    "duration": ("Duration", "duration", r"/^-?P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$/", "a duration"),
    "decimal": ("Decimal", "decimal", r"/^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/", "a decimal number"),
    "uuid": ("Uuid", "uuid", r"/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i", "a UUID"),
    "base64": ("Base64", "base64", r"/^[A-Za-z0-9+\/]*={0,2}$/", "bytes in base 64"),
}
WORDS = (
    "any as bigint boolean break case catch class const continue debugger declare default delete do else enum "
    "export extends false finally for function if implements import in instanceof interface let never new null "
    "number object package private protected public return static string super switch symbol this throw true try "
    "type typeof undefined unknown var void while with yield Array Error JSON Number Object Read Record Readonly "
    "String CloudEvent MalformedMessage PublishedEvent UnknownEvent DateTime LocalDate LocalTime Duration Decimal "
    "Uuid Base64"
)
RESERVED = frozenset(WORDS.split())
"""What no class may be called."""
FIXED = """
/** An event as it is sent: a CloudEvent in JSON. `id` is the same if it is sent again. */
export interface CloudEvent<Type extends string, Data> {
  readonly specversion: "1.0";
  readonly id: string;
  readonly source: string;
  readonly type: Type;
  readonly time?: DateTime | undefined;
  readonly subject?: string | undefined;
  readonly partitionkey?: string | undefined;
  readonly sequence?: string | undefined;
  readonly correlationid?: string | undefined;
  readonly causationid?: string | undefined;
  readonly actor?: string | undefined;
  readonly data: Data;
}

/** The message is no CloudEvent, or its event is not what its contract says. */
export class MalformedMessage extends Error {
  override readonly name = "MalformedMessage";
}

/** The message has an event that this file does not know. */
export class UnknownEvent extends Error {
  override readonly name = "UnknownEvent";
  readonly type: string;
  readonly event: { readonly [key: string]: unknown };

  constructor(type: string, event: { readonly [key: string]: unknown }) {
    super(`there is no event ${JSON.stringify(type)} in this contract`);
    this.type = type;
    this.event = event;
  }
}
"""
HELPERS = """
type Read<T> = (value: unknown, at: string) => T;

function fail(at: string, wanted: string, value: unknown): never {
  throw new MalformedMessage(`${at} should be ${wanted}, but is ${String(JSON.stringify(value)).slice(0, 80)}`);
}

function text(value: unknown, at: string): string {
  return typeof value === "string" ? value : fail(at, "text", value);
}

/** Numbers that JavaScript would round are refused. */
function whole(value: unknown, at: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  return fail(at, "a whole number below 2^53", value);
}

function real(value: unknown, at: string): number {
  return typeof value === "number" ? value : fail(at, "a number", value);
}

function flag(value: unknown, at: string): boolean {
  return typeof value === "boolean" ? value : fail(at, "true or false", value);
}

function nothing(value: unknown, at: string): null {
  return value === null ? null : fail(at, "null", value);
}

function anything(value: unknown): unknown {
  return value;
}

function branded<T extends string>(wanted: string, form: RegExp): Read<T> {
  return (value, at) => (typeof value === "string" && form.test(value) ? (value as T) : fail(at, wanted, value));
}

function oneOf<T>(...known: readonly T[]): Read<T> {
  return (value, at) => {
    const found = known.find((each) => each === value);
    return found === undefined ? fail(at, known.map((each) => JSON.stringify(each)).join(" or "), value) : found;
  };
}

function arrayOf<T>(read: Read<T>): Read<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) return fail(at, "an array", value);
    return value.map((each: unknown, place) => read(each, `${at}[${place}]`));
  };
}

function tupleOf<T extends readonly unknown[]>(...reads: { readonly [K in keyof T]: Read<T[K]> }): Read<T> {
  return (value, at) =>
    Array.isArray(value) && value.length === reads.length
      ? (reads.map((read, place) => read(value[place], `${at}[${place}]`)) as unknown as T)
      : fail(at, `an array of ${reads.length}`, value);
}

function recordOf<T>(read: Read<T>): Read<{ readonly [key: string]: T }> {
  return (value, at) =>
    Object.fromEntries(Object.entries(fieldsOf(value, at)).map(([key, each]) => [key, read(each, `${at}.${key}`)]));
}

function either<A, B>(one: Read<A>, other: Read<B>): Read<A | B> {
  return (value, at) => {
    try {
      return one(value, at);
    } catch (error) {
      if (error instanceof MalformedMessage) return other(value, at);
      throw error;
    }
  };
}

function fieldsOf(value: unknown, at: string): { readonly [key: string]: unknown } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return fail(at, "an object", value);
  return value as { readonly [key: string]: unknown };
}

function byPlace(value: unknown, at: string, ...names: readonly string[]): { readonly [key: string]: unknown } {
  if (!Array.isArray(value)) return fail(at, "an array", value);
  return Object.fromEntries(value.slice(0, names.length).map((each: unknown, place) => [names[place] ?? "", each]));
}

function field<T>(fields: { readonly [key: string]: unknown }, key: string, read: Read<T>, at: string): T {
  if (!Object.prototype.hasOwnProperty.call(fields, key)) throw new MalformedMessage(`${at}.${key} is missing`);
  return read(fields[key], `${at}.${key}`);
}

function fieldOr<T>(
  fields: { readonly [key: string]: unknown },
  key: string,
  read: Read<T>,
  at: string,
  otherwise: unknown,
): T {
  return read(Object.prototype.hasOwnProperty.call(fields, key) ? fields[key] : otherwise, `${at}.${key}`);
}

function maybe<T>(read: Read<T>): Read<T | undefined> {
  return (value, at) => (value === undefined ? undefined : read(value, at));
}
"""
PARSE = """
/** Return a message, which is a CloudEvent in JSON; throws MalformedMessage and UnknownEvent. */
export function parse(message: string): PublishedEvent {
  let content: unknown;
  try {
    content = JSON.parse(message);
  } catch (error) {
    throw new MalformedMessage(`the message is no JSON: ${String(error)}`);
  }
  const at = "message";
  const fields = fieldsOf(content, at);
  const type = field(fields, "type", text, at);
  const envelope = {
    specversion: field(fields, "specversion", oneOf("1.0" as const), at),
    id: field(fields, "id", text, at),
    source: field(fields, "source", text, at),
    time: fieldOr(fields, "time", maybe(dateTime), at, undefined),
    subject: fieldOr(fields, "subject", maybe(text), at, undefined),
    partitionkey: fieldOr(fields, "partitionkey", maybe(text), at, undefined),
    sequence: fieldOr(fields, "sequence", maybe(text), at, undefined),
    correlationid: fieldOr(fields, "correlationid", maybe(text), at, undefined),
    causationid: fieldOr(fields, "causationid", maybe(text), at, undefined),
    actor: fieldOr(fields, "actor", maybe(text), at, undefined),
  };
  switch (type) {
%s    default:
      throw new UnknownEvent(type, fields);
  }
}
"""
