"""Identities that hold for a finalised invoice (stripe-domain §5.2), and what is billed where one does not hold."""

from __future__ import annotations

from dataclasses import replace

from projections.revenue.entries import Problem
from projections.revenue.facts import InvoiceFact, LineFact
from projections.revenue.schedule import NEVER


def billed_lines(invoice: InvoiceFact) -> tuple[list[LineFact], list[Problem]]:
    """Return the lines to bill: they come to the invoice's total, whatever its snapshot leaves out.

    A rounding difference goes to the largest line; tax that no line shows is a line of its own. Where lines are
    missing, the difference is billed as one line that is never earned until the lines are known, and is said aloud.
    Nothing is guessed.
    """
    problems = [
        Problem(kind, invoice.key, invoice.currency, amount, invoice.finalized_at, (invoice.because["finalize"],))
        for kind, amount in _mismatches(invoice)
    ]
    lines = sorted(invoice.lines, key=lambda line: line.key)
    if invoice.shipping or invoice.shipping_tax:
        key = f"{invoice.key}:shipping"
        lines.append(LineFact(key, invoice.shipping, invoice.shipping_tax, 0, 0, invoice.subscription))
    net = invoice.total - invoice.tax
    missing, tax = net - sum(line.net for line in lines), invoice.tax - sum(line.tax for line in lines)
    if not missing and not tax:
        return lines, problems
    because = (invoice.because["finalize"],)
    if lines and not invoice.incomplete and abs(missing) <= len(lines):
        if abs(tax) > len(lines):  # old shapes show tax on the whole alone: what is earned is known all the same
            problem = Problem("tax_not_on_lines", invoice.key, invoice.currency, tax, invoice.finalized_at, because)
            problems.append(problem)
            lines.append(LineFact(f"{invoice.key}:tax", 0, tax, 0, 0, invoice.subscription))
            tax = 0
        largest = max(range(len(lines)), key=lambda place: (abs(lines[place].net), -place))
        lines[largest] = replace(lines[largest], net=lines[largest].net + missing, tax=lines[largest].tax + tax)
        return lines, problems
    kind = "lines_incomplete" if invoice.incomplete else "lines_differ_from_total"
    problems.append(Problem(kind, invoice.key, invoice.currency, missing + tax, invoice.finalized_at, because))
    return [LineFact(f"{invoice.key}:unscheduled", net, invoice.tax, NEVER, NEVER + 1, invoice.subscription)], problems


def _mismatches(invoice: InvoiceFact) -> list[tuple[str, int]]:
    found = [("total_differs_from_net_and_tax", invoice.total - invoice.net - invoice.tax)]  # I1
    due = invoice.total - invoice.balance - invoice.pre_payment_credit_notes
    found.append(("amount_due_differs", invoice.amount_due - max(due, 0)))  # I2
    remaining = invoice.amount_due - invoice.amount_paid
    if invoice.status == "open":
        found.append(("amount_remaining_differs", invoice.amount_remaining - max(remaining, 0)))  # I3
    return [(kind, amount) for kind, amount in found if amount]
