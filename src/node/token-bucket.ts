/** A budget that refills: `burst` at first, then one more each `everyMs`. Pure. */
export type Refill = { readonly burst: number; readonly everyMs: number };

/** What was left at a moment; undefined is a budget that nothing was taken of. */
export type Bucket = { readonly tokens: number; readonly atMonoMs: number } | undefined;

/** What is left by now, with the part of the next one that has come. */
export function tokensAt(bucket: Bucket, { burst, everyMs }: Refill, monoMs: number): number {
  if (bucket === undefined || everyMs === 0) return burst;
  return Math.min(burst, bucket.tokens + (monoMs - bucket.atMonoMs) / everyMs);
}

export function oneTaken(bucket: Bucket, refill: Refill, monoMs: number): Bucket {
  return { tokens: tokensAt(bucket, refill, monoMs) - 1, atMonoMs: monoMs };
}

/** Milliseconds until there is one; 0 when there is. */
export function untilOneMs(bucket: Bucket, refill: Refill, monoMs: number): number {
  return Math.max(0, Math.ceil((1 - tokensAt(bucket, refill, monoMs)) * refill.everyMs));
}
