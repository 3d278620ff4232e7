/**
 * Kubernetes quantities: `100m`, `0.5`, `128Mi`, `1e3`, `1E`.
 * Source: k8s.io/apimachinery pkg/api/resource.
 */
import { Failure } from '../base/failure.ts';

const FORM =
  /^([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,9}))?$/;

const DECIMAL_EXPONENTS: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const BINARY_EXPONENTS: Readonly<Record<string, number>> = {
  Ki: 10,
  Mi: 20,
  Gi: 30,
  Ti: 40,
  Pi: 50,
  Ei: 60,
};

/** The largest quantity, in nanos: beyond that Kubernetes cuts off. */
const MAX_NANOS = (2n ** 63n - 1n) * 10n ** 9n;
/** Digits beyond these say nothing that fits between one nano and `MAX_NANOS`. */
const MAX_LENGTH = 100;

/**
 * The quantity in billionths, as Kubernetes keeps it: finer fractions are rounded up, away from
 * zero, and more than 2^63 - 1 is cut off. Undefined when the text is no quantity.
 */
export function parseQuantity(text: string): bigint | undefined {
  const match = text.length > MAX_LENGTH ? null : FORM.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = '', fraction = '', bareFraction = '', suffix = '', exponent] = match;
  const decimals = fraction + bareFraction;
  const digits = BigInt(whole + decimals || '0');
  const twos = BINARY_EXPONENTS[suffix] ?? 0;
  const tens = exponent === undefined ? (DECIMAL_EXPONENTS[suffix] ?? 0) : Number(exponent);
  const nanos = scaled(digits << BigInt(twos), tens + 9 - decimals.length);
  return sign === '-' ? -nanos : nanos;
}

/** `digits` × 10^`exponent`, rounded up and cut off. */
function scaled(digits: bigint, exponent: number): bigint {
  if (digits === 0n) return 0n;
  if (exponent >= 0) {
    const value = exponent > 40 ? MAX_NANOS : digits * 10n ** BigInt(exponent);
    return value > MAX_NANOS ? MAX_NANOS : value;
  }
  // 10^-200 of what fits in the text is less than one nano: rounded up, it is one.
  const divisor = 10n ** BigInt(Math.min(-exponent, 200));
  const value = (digits + divisor - 1n) / divisor;
  return value > MAX_NANOS ? MAX_NANOS : value;
}

/**
 * The quantity in thousandths (of a processor), rounded up.
 *
 * @throws Failure `InvalidArgument` when the text is no quantity.
 */
export function quantityMilli(text: string): number {
  return roundedUp(text, 10n ** 6n);
}

/**
 * The quantity in ones (bytes), rounded up. What is beyond 2^53 - 1 is cut off there.
 *
 * @throws Failure `InvalidArgument` when the text is no quantity.
 */
export function quantityValue(text: string): number {
  return roundedUp(text, 10n ** 9n);
}

/** As `quantityValue`, where the quantity is of memory or disk. */
export const quantityBytes = quantityValue;

function roundedUp(text: string, nanosPerUnit: bigint): number {
  const nanos = parseQuantity(text);
  if (nanos === undefined) {
    throw new Failure(
      'InvalidArgument',
      `${JSON.stringify(text)} is no quantity: write 100m, 0.5, 2, 128Mi or 1e3`,
    );
  }
  const sign = nanos < 0n ? -1 : 1;
  const size = nanos < 0n ? -nanos : nanos;
  const units = (size + nanosPerUnit - 1n) / nanosPerUnit;
  return sign * Math.min(Number(units), Number.MAX_SAFE_INTEGER) + 0;
}
