package shop

default discount := 0

discount := percent if percent := data.discounts[input.customer]
